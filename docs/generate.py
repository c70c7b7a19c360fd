"""Pages of the site that come from the code: keys of the config, models, Python; beside those of docs/.

python docs/generate.py build/docs
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recrun.config import docs  # noqa: E402
from recrun.config.composition import Settings  # noqa: E402
from recrun.config.explain import SETTINGS, shown  # noqa: E402
from recrun.config.listing import description, suits  # noqa: E402
from recrun.config.schema import signature  # noqa: E402
from recrun.config.search_path import GROUPS, chosen_in, conf_dir, options, target_in  # noqa: E402
from recrun.config.validate import GIVEN  # noqa: E402

ELSEWHERE = {  # pages that live outside docs/, and their names on the site
    "../README.md": "index.md",
    "../benchmarks/README.md": "benchmarks.md",
    "../CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
}
API = {  # page of the site: packages and modules of recrun that it shows
    "recrun": [""],
    "protocols": ["interfaces", "capabilities", "types", "features", "errors"],
    "data": ["data"],
    "objectives": ["objectives"],
    "layers": ["models/layers"],
    "training": ["training", "optim"],
    "evaluation": ["evaluation"],
    "experiments": ["experiments", "checkpoints", "runtime"],
    "config": ["config"],
}


def generate(target: Path) -> None:
    """Writes all pages of the site into a folder, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for source, name in ELSEWHERE.items():
        if not (target / name).exists():
            shutil.copy(ROOT / "docs" / source, target / name)
    with (target / "models.md").open("a", encoding="utf-8") as page:
        page.write(model_list())
    pages = {**key_pages(), **model_pages(), **api_pages()}
    for name, text in pages.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
    for page in target.rglob("*.md"):
        page.write_text(linked(page.read_text(encoding="utf-8"), page.relative_to(target)), encoding="utf-8")


def linked(text: str, page: Path) -> str:
    """A page's text with its links as the site has them."""
    up = "../" * (len(page.parts) - 1)
    for source, name in ELSEWHERE.items():
        text = text.replace(f"]({up}{source}", f"]({up}{name}")
    if page.name in ELSEWHERE.values():  # written to be read at the top of the repository
        text = re.sub(r"\]\((?:\.\./)?docs/", "](", text)
    return text


# The config


def key_pages() -> dict[str, str]:
    """A page for each group of options, with every key of every class that an option makes."""
    rows = [f"| [`{group}`]({group}.md) | {', '.join(f'`{name}`' for name in found(group))} |" for group in GROUPS]
    top = [
        "# Keys of the config",
        "Every key that can be typed, read from the code. `recrun explain KEY` shows the same in the terminal, and\n"
        "where a value comes from. The groups, each with a page:",
        "\n".join(["| group | options |", "|---|---|", *rows]),
        "## Keys at the top",
        table(SETTINGS, ""),
    ]
    return {"keys/index.md": joined(top), **{f"keys/{group}.md": key_page(group) for group in GROUPS}}


def key_page(group: str) -> str:
    """The options of a group: the keys of their classes, and their YAML files."""
    parts = [f"# {group}=…"]
    classes: dict[str, list[str]] = {}
    for name, path in found(group).items():
        if group != "experiment" and (target := target_in(path)):
            classes.setdefault(target, []).append(name)
    for target, names in classes.items():
        parts += class_section(target, prefix(group), group, f"`{group}={'`, `'.join(names)}`")
    for key, target in sorted(inner_classes(group)):
        parts += class_section(target, f"{prefix(group)}{key}.", group, f"of `{prefix(group)}{key}`")
    parts.append("## YAML files")
    for name, path in found(group).items():
        suited = suits(group, path)
        parts += [f"### {name}", f"{escaped(description(path, whole=False))} {escaped(suited)}".strip(), yaml(path)]
    return joined(parts)


def inner_classes(group: str) -> set[tuple[str, str]]:
    """Keys that hold a class of ours in some YAML file of a group, such as `filters` of a data set, and that class."""
    classes = set()
    for path in (conf_dir() / group).glob("*.yaml"):
        node = OmegaConf.load(path)
        outer = node.get(group, node) if group in ("dataset", "trainer") else node
        for key, value in OmegaConf.to_container(outer).items():  # type: ignore[union-attr]
            if isinstance(value, dict) and str(value.get("_target_", "")).startswith("recrun."):
                classes.add((str(key), str(value["_target_"])))
    return classes


def class_section(target: str, path: str, group: str, used_by: str) -> Iterator[str]:
    """The keys of a class."""
    yield f"## {target.rpartition('.')[2]}"
    first = docs.first_line(target)
    yield f"{escaped(first)}\n\n{used_by}; class `{target}`".strip()
    yield table(target, path, group)


def table(target: str, path: str, group: str = "") -> str:
    """Keys of a class that a person may set: what they may be, their default and meaning."""
    said = {**(top_comments() if target == SETTINGS else {}), **docs.sentences(target)}
    ours = target.startswith("recrun.")
    if not ours:
        said |= yaml_comments(group)
    fields = [field for field in signature(target).fields.values() if not field.from_data]
    rows = []
    for field in fields:
        if field.name in GIVEN.get(group, ()) or (not ours and field.name not in said):
            continue
        default = top_defaults().get(field.name, "") if target == SETTINGS else ""
        default = default or ("must be given" if field.required else code(shown(field.default)))
        meaning = escaped(said.get(field.name, ""))
        rows.append(f"| `{path}{field.name}` | {escaped(str(field.kind))} | {default} | {meaning} |")
    more = "" if ours else f"Other keys are those of `{target}`."
    lines = ["| key | allowed | default | meaning |", "|---|---|---|---|", *rows] if rows else ["No keys."]
    return joined(["\n".join(lines), more]).rstrip()


def yaml_comments(group: str) -> dict[str, str]:
    """The comments beside keys in the YAML files of a group, by key."""
    lines = [line for path in found(group).values() for line in path.read_text(encoding="utf-8").splitlines()]
    return {key[1]: key[2] for line in lines if (key := re.match(r"\s*(\w+):[^#]*#\s*(\S.*)", line))}


def prefix(group: str) -> str:
    """What is typed before a key of a group's option."""
    if group in ("objective", "weighting", "optimizer", "scheduler"):
        return f"trainer.{group}."
    return {"stage": "stage.<name>.objective."}.get(group, f"{group}.")


def found(group: str) -> dict[str, Path]:
    """The options of a group that come with recrun."""
    return options(group, [conf_dir()])


def top_comments() -> dict[str, str]:
    """The comments of config.yaml, by key."""
    return {name: comment for name, _, comment in top_lines()}


def top_defaults() -> dict[str, str]:
    """The values of config.yaml, by key."""
    return {name: code(value) for name, value, _ in top_lines()}


def top_lines() -> Iterator[tuple[str, str, str]]:
    """Key, value and comment of each line of config.yaml that sets a key."""
    for line in (conf_dir() / "config.yaml").read_text(encoding="utf-8").splitlines():
        name, colon, rest = line.partition(":")
        if colon and name in Settings.__dataclass_fields__:
            value, _, comment = rest.partition("#")
            yield name, value.strip(), comment.strip()


# Models


def model_list() -> str:
    """The end of the page on models: a link to the page of each."""
    about = {name: escaped(description(path, whole=False)) for name, path in found("model").items()}
    rows = [f"| [{name}](models/{name}.md) | {line} |" for name, line in about.items()]
    return "\n".join(["\n## All pages\n", "| page | model |", "|---|---|", *rows, ""])


def model_pages() -> dict[str, str]:
    """A page for each model: what it is, its differences from the paper, config, figures and classes."""
    notes = sections((ROOT / "docs" / "models.md").read_text(encoding="utf-8"))
    return {f"models/{name}.md": model_page(name, path, notes.get(name, "")) for name, path in found("model").items()}


def model_page(name: str, path: Path, notes: str) -> str:
    """One model."""
    target = target_in(path) or ""
    parts = [f"# {name}", escaped(description(path, whole=True)), moved(notes)]
    parts += ["## Config", f"`recrun model={name}`; `conf/model/{name}.yaml`:", yaml(path)]
    parts += [f"[All keys of models](../keys/model.md); of `{target}`:", table(target, "model.")]
    used = [(option, file) for option, file in found("experiment").items() if chosen_in(file, "model") == name]
    if used:
        parts += ["## Figures", "Experiments with this model, each with its command and what it gave:"]
        parts += [f"`recrun experiment={option}`\n\n{text(description(file, whole=True))}" for option, file in used]
    parts += ["## Code", f"::: {target.rpartition('.')[0]}\n    options:\n      heading_level: 3"]
    return joined(parts)


def moved(notes: str) -> str:
    """What docs/models.md says of a model, with its links as they are one folder below."""
    notes = re.sub(r"\]\(#(\w+)\)", r"](models/\1.md)", notes)
    return re.sub(r"\]\((?!\w+:)", "](../", notes)


def sections(page: str) -> dict[str, str]:
    """The parts of a page by their heading of third degree."""
    pieces = re.split(r"^###? +(.+)$", page, flags=re.MULTILINE)
    return {head.strip("` "): body.strip() for head, body in zip(pieces[1::2], pieces[2::2], strict=True)}


# Python


def api_pages() -> dict[str, str]:
    """A page for each part of the package, of which mkdocstrings makes signatures and docstrings."""
    rows = [f"| [{name}]({name}.md) | `{'`, `'.join(modules(folders))}` |" for name, folders in API.items()]
    index = [
        "# Python",
        "What each module has, from its docstrings; a model's classes are on [its own page](../models.md).",
        "\n".join(["| page | modules |", "|---|---|", *rows]),
    ]
    pages = {
        f"api/{name}.md": joined([f"# {name}", *(f"::: {one}" for one in modules(folders))])
        for name, folders in API.items()
    }
    return {"api/index.md": joined(index), **pages}


def modules(places: Sequence[str]) -> list[str]:
    """The dotted names of the modules in some folders of the package, or of single ones; "" is the package itself."""
    names: list[str] = []
    for place in places:
        files = sorted((ROOT / "recrun" / place).rglob("*.py")) if place else []
        names += ["/".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file.stem != "__init__"]
        if not files:
            names.append(f"recrun/{place}".rstrip("/"))
    return [name.replace("/", ".") for name in names]


# Markdown


def joined(parts: list[str]) -> str:
    """Paragraphs with a blank line between."""
    return "\n\n".join(part for part in parts if part) + "\n"


def yaml(path: Path) -> str:
    """A YAML file as a code block."""
    return f"```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```"


def text(block: str) -> str:
    """Lines as a code block."""
    return f"```text\n{block}\n```"


def code(value: str) -> str:
    """A value of a table's cell."""
    return f"`{escaped(value)}`" if value.strip() else "`' '`"


def escaped(line: str) -> str:
    """A text that Markdown leaves as it is, also in a cell."""
    return line.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
