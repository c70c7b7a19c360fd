"""Downloads from a server on this machine: whole, resumed, broken, absent."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recrun.data.io.columns import Columns
from recrun.data.io.download import Archive, ByHand
from recrun.data.io.event_files import EventFiles
from recrun.data.io.movielens import MovieLens100K
from recrun.errors import DataError

RATINGS = "".join(f"{user}\t{item}\t4\t{user + item}\n" for user in range(1, 6) for item in range(1, 8))


USERS = "".join(f"{user}|{20 + user}|F|writer|8571{user}\n" for user in range(1, 6))
FILMS = {1: "Caf\xe9 (au lait) (1993)|01-Jan-1994", 2: "unknown|", 3: "Giving, The (1995) (V)|01-Jan-1995"}
GENRES = {1: "0001010000000000000", 2: "1000000000000000000", 3: "0000000000000000001"}
ITEMS = "".join(f"{item}|{FILMS[item]}||http://a.example|{'|'.join(GENRES[item])}\n" for item in FILMS)
MOVIELENS = {"ml-100k/u.data": RATINGS, "ml-100k/u.user": USERS, "ml-100k/u.item": ITEMS.encode("latin-1")}


def zipped(member="ml-100k/u.data", content=RATINGS):
    return zipped_files({member: content})


def zipped_files(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../escape.txt", "not unpacked")
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(BaseHTTPRequestHandler):
    content = b""
    ranges = True  # whether Range is honoured
    send_only = None  # bytes after which the connection is cut
    requests: list

    def do_GET(self):
        asked = self.headers.get("Range")
        self.requests.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start and start >= len(self.content):
            self.send_error(416)
            return
        if self.path == "/missing.zip":
            self.send_error(404)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : self.send_only])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"content": zipped(), "requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        handler.url = f"http://127.0.0.1:{http.server_port}/ml-100k.zip"
        yield handler
        http.shutdown()
        thread.join()


def visible(folder):
    """Files, without the empty lock file."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("[!.]*") if p.is_file())


def archive(server, content=None, **changes):
    md5 = hashlib.md5(content or server.content).hexdigest()
    return Archive(**{"url": server.url, "md5": md5, "member": "ml-100k/u.data", **changes})


def test_fetch_puts_only_the_member_in_place(server, tmp_path):
    root = tmp_path / "not" / "there"
    path = archive(server).fetch(root)
    assert path.read_text() == RATINGS
    assert visible(tmp_path) == ["not/there/ml-100k/u.data"]
    archive(server).fetch(root)
    assert len(server.requests) == 1  # what is there is not fetched again


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_goes_on(server, tmp_path, ranges):
    server.send_only, server.ranges = 100, ranges
    with pytest.raises(DataError, match=r"cannot download .*100 of \d+ bytes; run again to go on"):
        archive(server).fetch(tmp_path)
    assert (tmp_path / "ml-100k.zip.part").stat().st_size == 100
    assert not (tmp_path / "ml-100k/u.data").exists()
    server.send_only = None
    assert archive(server).fetch(tmp_path).read_text() == RATINGS
    assert server.requests == [None, "bytes=100-"]


def test_whole_part_file_is_used(server, tmp_path):
    (tmp_path / "ml-100k.zip.part").write_bytes(server.content)
    assert archive(server).fetch(tmp_path).read_text() == RATINGS


def test_two_at_once_download_once(server, tmp_path):
    threads = [threading.Thread(target=archive(server).fetch, args=[tmp_path]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "ml-100k/u.data").read_text() == RATINGS
    assert len(server.requests) == 1


def test_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match=r"MD5 checksum [0-9a-f]{32}, expected 0{32}; it was removed"):
        archive(server, md5="0" * 32).fetch(tmp_path)
    assert visible(tmp_path) == []


@pytest.mark.parametrize("content", [b"no zip file", zipped("other.txt")])
def test_archive_without_the_member(server, tmp_path, content):
    server.content = content
    with pytest.raises(DataError, match=r"not a zip file with ml-100k/u.data in it"):
        archive(server).fetch(tmp_path)
    assert not (tmp_path / "ml-100k/u.data").exists()


def test_offline_says_what_to_put_where(server, tmp_path):
    for url, reason in (
        (server.url.replace("ml-100k", "missing"), "HTTP 404"),
        ("http://127.0.0.1:9/a.zip", "refused"),
    ):
        with pytest.raises(DataError) as error:
            archive(server, url=url).fetch(tmp_path)
        for part in (url, reason, "take ml-100k/u.data out of it", str(tmp_path / "ml-100k/u.data"), "RECRUN_DATA"):
            assert part in str(error.value)
        assert not (tmp_path / "ml-100k").exists()


def test_unwritable_root(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .*put it at"):
        archive(server).fetch(tmp_path / "file")


def test_a_preset_downloads_only_what_is_absent(server, tmp_path):
    files = EventFiles("ml-100k", str(tmp_path), Columns(), None, False, None, archive(server))
    assert len(files.events()) == 35
    (tmp_path / "ml-100k/u.data").unlink()
    (tmp_path / "ml-100k/ml-100k.inter").write_text("user_id:token\titem_id:token\n1\t1\n1\t2\n1\t3\n")
    assert len(files.events()) == 3
    assert len(server.requests) == 1


def test_a_file_that_only_a_person_can_get_says_where_and_where_to_put_it(tmp_path):
    with pytest.raises(DataError) as caught:
        ByHand("https://a.example/shop", "shop/events.csv", "Unpack it").fetch(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/shop/events.csv does not exist")
    assert str(caught.value).endswith("https://a.example/shop. Unpack it")


def movielens(server, **changes):
    server.content = zipped_files({**MOVIELENS, **changes})
    return MovieLens100K(server.url, hashlib.md5(server.content).hexdigest())


def test_movielens_becomes_three_tables_with_names(server, tmp_path):
    path = movielens(server).fetch(tmp_path)
    folder = tmp_path / "ml-100k"
    assert path == folder / "ml-100k.inter"
    assert path.read_text() == "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + RATINGS
    user, *users = (folder / "ml-100k.user").read_text().splitlines()
    assert user.split("\t") == ["user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"]
    assert users == [line.replace("|", "\t") for line in USERS.splitlines()]
    assert (folder / "ml-100k.item").read_text("utf-8").splitlines() == [
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        "1\tCafé (au lait)\t1993\tAnimation Comedy",
        "2\tunknown\t\tunknown",
        "3\tGiving, The (V)\t1995\tWestern",
    ]
    path.unlink()
    movielens(server).fetch(tmp_path)
    assert path.exists()
    assert len(server.requests) == 1  # made again of what was downloaded


def test_a_table_of_another_form_is_named_and_leaves_nothing(server, tmp_path):
    wanted = movielens(server, **{"ml-100k/u.user": USERS + "6|26|F|writer\n"})
    with pytest.raises(DataError, match=r"u\.user:6: 4 columns instead of 5; remove the file and run again"):
        wanted.fetch(tmp_path)
    assert not [*(tmp_path / "ml-100k").glob("ml-100k.*[!t]")]
