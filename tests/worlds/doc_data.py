"""The files that pages of the documentation speak of, with few rows: one's own, and those of public sets."""

import gzip
import random
from pathlib import Path

import pandas as pd
import pyarrow.csv
import pyarrow.parquet
import torch
from scipy.sparse import csr_matrix

USERS, ITEMS = 80, 90


def write(folder: Path) -> None:
    """The files of a user, in a folder: clicks, ratings, visits and news."""
    rng = random.Random(1)
    for name, separator in (("clicks.csv", ","), ("clicks.tsv", "\t"), ("ratings.csv", ",")):
        last = "rating" if name == "ratings.csv" else "click"
        rows = [*events(rng, longest_pause=40_000 if last == "rating" else 300)]
        lines = [("user", "item", "time", last)]
        lines += [(f"u{u}", f"i{i}", str(t), str(4 + i % 2 if last == "rating" else i % 2)) for u, i, t in rows]
        text(folder / name, lines, separator)
    table = pyarrow.csv.read_csv(folder / "ratings.csv")
    pyarrow.parquet.write_table(table, folder / "clicks.parquet")
    items = [(f"i{i}", f"b{i % 4}", f"red|{i % 3}") for i in range(ITEMS)]
    text(folder / "items.csv", [("item", "brand", "tags"), *items], ",")
    visits = [("user", "item", "city", "age", "click", "stay")]
    visits += [(f"u{u}", f"i{i}", f"c{u % 3}", str(20 + u), str((u + i) % 2), str(i / 10)) for u, i, _ in rows]
    text(folder / "visits.csv", visits, ",")
    text(folder / "train.csv", [criteo(rng) for _ in range(1_500)], "\t")
    for part in ("train", "valid"):
        news(folder / "mind" / part, rng)
    sections = ["data: {title_size: 8, his_size: 5}", "model: {word_emb_dim: 8, head_num: 2, head_dim: 4}"]
    (folder / "nrms.yaml").write_text("\n".join(sections), encoding="utf-8")


def write_public(root: Path) -> None:
    """Tiny stand-ins for MovieLens, Census-Income and Criteo, in their own formats."""
    rng = random.Random(2)
    rows = [*events(rng, longest_pause=40_000, items=140)]
    typed = [("user_id:token", "item_id:token", "rating:float", "timestamp:float")]
    rows = [(str(u + 150), str(i + 50), "5", str(t)) for u, i, t in rows]
    text(root / "ml-100k" / "ml-100k.inter", [*typed, *rows], "\t")
    users = [("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token")]
    text(
        root / "ml-100k" / "ml-100k.user",
        [*users, *((str(u + 150), "30", "F", "other", "1") for u in range(USERS))],
        "\t",
    )
    items = [("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")]
    films = ((str(i + 50), f"Film {i}", "1995", "Comedy") for i in range(140))
    text(root / "ml-100k" / "ml-100k.item", [*items, *films], "\t")
    rows = [*events(rng, longest_pause=40_000, items=300)]
    text(root / "ml-1m" / "ratings.dat", [(str(u), str(i), "5", str(t)) for u, i, t in rows], "::")
    histories = [[str(user), *(str(item) for other, item, _ in rows if other == user)] for user in range(USERS)]
    text(root / "amazon-beauty" / "sequences.txt", histories, " ")
    people = [["x"] * 42 for _ in range(200)]
    for number, person in enumerate(people):
        for column in (0, 5, 16, 17, 18, 30, 39):  # numbers
            person[column] = str(rng.randrange(90))
        person[7] = "Never married" if number % 2 else "Divorced"
        person[41] = "50000+." if number % 3 else "- 50000."
    (root / "census").mkdir()
    with gzip.open(root / "census" / "census-income.test.gz", "wt") as file:
        file.writelines(", ".join(person) + "\n" for person in people)
    text(root / "criteo" / "train.txt", [criteo(rng) for _ in range(1_500)], "\t")


def tables():
    """The tables that Python on a page speaks of."""
    rows = pd.DataFrame(events(random.Random(1), 300), columns=["user", "item", "time"])
    files = {
        f"{part}_{name}": f"mind/{part}/{name}.tsv" for part in ("train", "valid") for name in ("news", "behaviors")
    }
    files |= {f"test_{name}": f"mind/valid/{name}.tsv" for name in ("news", "behaviors")}
    times = csr_matrix((rows["time"].astype(float), (rows["user"], rows["item"])), shape=(USERS, ITEMS))
    files |= dict.fromkeys(("X", "val_in", "val_out", "X_test"), times)
    files["model"] = Clicks()
    label = torch.arange(64) % 2
    batch = ({"age": label + torch.rand(64)}, label.float())
    files |= {f"{part}_loader": [batch] for part in ("train", "val", "test")}
    return files | {
        "frame": rows,
        "items": pd.DataFrame({"item": range(ITEMS), "brand": [n % 4 for n in range(ITEMS)]}),
    }


class Clicks(torch.nn.Module):
    """A model as Torch-RecHub's trainers have them: probabilities from a batch of columns."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, batch):
        return self.linear(batch["age"][:, None]).sigmoid().squeeze(1)


def events(rng, longest_pause, items=ITEMS):
    """Users, items and times; the users begin within ten days, and have enough events for every split."""
    for user in range(USERS):
        time = 1_700_000_000 + user * 30_000
        for item in rng.sample(range(items), rng.randrange(9, 14)):
            time += rng.randrange(60, longest_pause)
            yield user, item, time


def criteo(rng):
    """A row of the challenge: a label, 13 numbers, 26 ids."""
    return [str(rng.randrange(2)), *(str(rng.randrange(9)) for _ in range(13)), *(rng.choice("ab") for _ in range(26))]


def news(folder, rng):
    """A part of the MIND format."""
    lines = [(f"N{n}", "c", "s", f"word{n} word{n % 7} news", "", "", "[]", "[]") for n in range(30)]
    text(folder / "news.tsv", lines, "\t")
    shown = [
        (str(n), f"U{n % 9}", "11/12/2019 2:14:46 PM", f"N{n % 30} N{n % 11}", "N1-1 N2-0 N3-0 N4-0 N5-0")
        for n in range(40)
    ]
    text(folder / "behaviors.tsv", shown, "\t")


def text(path, rows, separator):
    """Rows of cells as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
