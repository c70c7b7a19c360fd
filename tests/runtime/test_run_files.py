"""Files of a run directory: plain ones alone."""

import os

import pytest

from recrun.console.report import printable
from recrun.errors import ConfigError, RecrunError
from recrun.runtime import run_files


def test_links_within_a_run_are_fine_and_others_are_named(tmp_path):
    run = tmp_path / "run"
    (run / "wandb").mkdir(parents=True)
    (run / "wandb" / "latest").symlink_to("../wandb")
    run_files.refuse_links(run)
    (tmp_path / "alias").symlink_to(run)
    run_files.refuse_links(tmp_path / "alias")
    (run / "wandb" / "out").symlink_to("../../elsewhere")
    with pytest.raises(RecrunError, match="wandb/out is a link that leads out of"):
        run_files.refuse_links(run)


def test_text_is_bounded_and_utf8(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert run_files.read_text(path, 5) == "12345"
    with pytest.raises(RecrunError, match="is longer than"):
        run_files.read_text(path, 4)
    path.write_bytes(b"abc\xff")
    with pytest.raises(RecrunError, match="byte 3 is not UTF-8"):
        run_files.read_text(path)
    with pytest.raises(FileNotFoundError):
        run_files.read_text(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", "[" * 100_000, "9" * 5000, '{"a": 1} x'])
def test_json_that_is_none(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RecrunError, match=r"run\.json is damaged: ") as error:
        run_files.read_json(path)
    assert "\n" not in str(error.value)


def test_a_file_is_opened_neither_through_a_link_nor_where_it_is_a_pipe(tmp_path):
    goal = tmp_path / "goal"
    goal.write_text("kept")
    (tmp_path / "link").symlink_to(goal)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "pipe"):
        for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_APPEND):
            with pytest.raises(RecrunError):
                run_files.open_plain(tmp_path / name, flags)
    assert goal.read_text() == "kept"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("two\nlines\tand tab", "two\nlines\tand tab"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\x9b1mb\x07\r", "a\\x9b1mb\\x07\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_shown_not_sent(text, shown):
    assert printable(text) == shown


def test_yaml_bombs_in_a_conf_of_ones_own(tmp_path):
    from recrun.config.compose import compose
    from recrun.config.search_path import conf_dir

    (tmp_path / "model").mkdir()
    for text in ("&a [*a]", "model: &a {x: *a}"):
        (tmp_path / "model" / "bomb.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"bomb\.yaml:1: contains itself"):
            compose(["model=bomb"], [tmp_path, conf_dir()])
    (tmp_path / "model" / "bomb.yaml").write_text(
        "# @package _global_\ndefaults: [mult_vae]\nmodel: {mlp_hidden_size: &a [5], latent_dimension: 3}\nx: *a\n"
    )
    assert compose(["model=bomb"], [tmp_path, conf_dir()]).config["x"] == [5], "aliases as such are fine"
