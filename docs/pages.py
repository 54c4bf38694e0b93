"""What `mkdocs` adds to the pages in this folder: README in parts, reports, the commands.

Rule of this file: nothing is written twice. What README, CHANGELOG, CONTRIBUTING and the benchmark
reports say is taken from there, with links that fit the site; the commands describe themselves.
"""

from __future__ import annotations

import importlib
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]

# Sections of README that are pages of their own; the rest of it is the start page.
SECTIONS = {
    "Options": "options.md",
    "Access rights": "access_rights.md",
    "Limits": "limits.md",
}
WHOLE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

_LINK = re.compile(r"(?<=\]\()(?!https?:)([^)\s#]*)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of files outside of this folder."""
    for page, text in readme_pages().items():
        files.append(File.generated(config, page, content=to_site(text, "README.md", page)))
    for source, page in WHOLE.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=to_site(text, source, page)))
    for path in sorted((ROOT / "benchmarks").glob("*")):
        if path.suffix in (".md", ".png"):
            name = f"benchmarks/{path.name}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("examples/*.py")]:
        name = path.relative_to(ROOT).as_posix()
        files.append(
            File.generated(config, name, abs_src_path=str(path), inclusion=InclusionLevel.INCLUDED)
        )
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links that lead out of this folder lead to the page that is made of their target."""
    name = page.file.src_uri
    if page.file.generated_by is None:
        markdown = to_site(markdown, f"docs/{name}", name)
    if name == "cli.md":
        return f"{markdown}\n\n{commands()}\n"
    if name == "measured.md":
        return f"{markdown}\n{other_reports(markdown)}\n"
    return f"{markdown}\n\n{the_rest(markdown)}\n" if name.startswith("api/") else markdown


def readme_pages() -> dict[str, str]:
    """README's text by the page it goes to."""
    first, *sections = re.split(r"(?m)^(?=## )", (ROOT / "README.md").read_text())
    pages = {"index.md": first}
    for section in sections:
        title = section.split("\n", 1)[0].removeprefix("## ")
        if title in SECTIONS:
            pages[SECTIONS[title]] = re.sub(r"(?m)^#(#+ )", r"\1", section)
        else:
            pages["index.md"] += section
    return pages


def to_site(text: str, source: str, page: str) -> str:
    """The text of a file of the repository as a page: its links lead to pages of the site."""

    def led(link: re.Match[str]) -> str:
        path, anchor = link[1], link[2] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if not path:
            target = source
        if target == "README.md":
            ours = {slug(title): place for title, place in SECTIONS.items()}
            there = ours.get(anchor[1:], "index.md")
            anchor = "" if anchor[1:] in ours else anchor
        else:
            there = WHOLE.get(target, target.removeprefix("docs/"))
        if there == page and anchor:
            return anchor
        return posixpath.relpath(there, posixpath.dirname(page) or ".") + anchor

    return _LINK.sub(led, text)


def slug(title: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))


def commands() -> str:
    """Every command of `semcache` with its help, as `--help` says it."""
    import typer.main

    from valkey_semcache.cli.app import app

    group: Any = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():
        context = typer.Context(command, info_name=f"semcache {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        records = [param.get_help_record(context) for param in command.get_params(context)]
        rows = [
            f"| `{cell(record[0])}` | {cell(record[1])} |"
            for record in records
            if record and record[0] != "--help"
        ]
        example = command.epilog.removeprefix("Example: ")
        parts.append(
            f"## semcache {name}\n\n{paragraphs(command.help)}\n\n"
            f"```console\n$ semcache {name} {usage}\n$ {example}\n```\n\n"
            "| argument | what it does |\n|---|---|\n" + "\n".join(rows)
        )
    return "\n\n".join(parts)


def other_reports(page: str) -> str:
    """Links to the reports that a page does not name."""
    return "\n".join(
        f"- [{path.read_text().split(chr(10), 1)[0].removeprefix('# ')}](benchmarks/{path.name})"
        for path in sorted((ROOT / "benchmarks").glob("*.md"))
        if path.name not in page
    )


def the_rest(page: str) -> str:
    """What a package exports beside that which its page names: errors last."""
    package, named = page.split("::: ")[1].split(".")[0], re.findall(r"^::: (\S+)", page, re.M)
    rest = [
        f"{package}.{name}"
        for name in importlib.import_module(package).__all__
        if f"{package}.{name}" not in named
    ]
    rest.sort(key=lambda name: name.endswith("Error"))
    return "\n\n".join(f"::: {name}" for name in rest)


def cell(text: str) -> str:
    """Text in a table: on one line, and with bars that end no cell."""
    return " ".join(text.split()).replace("|", "\\|")


def paragraphs(text: str) -> str:
    """A docstring, its lines joined."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
