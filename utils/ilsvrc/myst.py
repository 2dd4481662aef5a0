"""MyST Markdown as plain Markdown, for places that know no MyST: Colab, JupyterLab, GitHub."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ADMONITIONS = {
    *("admonition", "attention", "caution", "danger", "error", "hint", "important", "margin"),
    *("note", "seealso", "sidebar", "tip", "topic", "warning"),
}
UNWRAPPED = {"card", "container", "div", "grid", "grid-item", "grid-item-card", "tab-set"}
FENCE = re.compile(r"^ *(`{3,}|:{3,}|~{3,})(?:\{([\w:-]+)\})?(.*)$")
CODE_OR_ROLE = re.compile(r"(?<!`)(?:\{([\w:.-]+)\})?(`+)(?!`)(.+?)(?<!`)\2(?!`)", re.DOTALL)
LINK = re.compile(r"(?<!\\)(!?)\[([^\]]*)\]\(([^)\s]+)\)(?:\{[^}]*\})?")
EQUATION = re.compile(r"^\$\$(.+)\$\$ *(?:\(([\w:-]+)\))? *$", re.DOTALL)
TARGET = re.compile(r"^\(([\w:.-]+)\)=$")


@dataclass
class Page:
    """What a chapter's references stand for; `plain` fills in the labels as it meets them."""

    citations: dict[str, tuple[str, str, str]]  # key -> authors, year, link
    chapters: frozenset[str]  # whose notebooks can be linked
    repository: str  # where the other pages lie
    labels: dict[str, str] = field(default_factory=dict)  # label -> "Figure 3", "(2)", a heading
    counts: Counter = field(default_factory=Counter)

    def number(self, kind: str, label: str | None) -> str:
        """Return the next number of a kind, such as "Figure 3", and keep it under its label."""
        self.counts[kind] += 1
        text = f"({self.counts[kind]})" if kind == "Equation" else f"{kind} {self.counts[kind]}"
        if label:
            self.labels[label] = text
        return text


def citations(file: Path) -> dict[str, tuple[str, str, str]]:
    """Return the authors, the year and a link for each key of a BibTeX file."""
    from pybtex.database import parse_file  # comes with the book's packages

    found = {}
    for key, entry in parse_file(str(file)).entries.items():
        fields = entry.fields
        people = [" ".join(person.last_names) for person in entry.persons.get("author", [])]
        names = f"{people[0]} et al." if len(people) > 2 else " and ".join(people)
        elsewhere = re.search(r"\\url\{(.+?)\}", fields.get("howpublished", ""))
        link = fields.get("url", elsewhere[1] if elsewhere else "")
        if "eprint" in fields:
            link = f"https://arxiv.org/abs/{fields['eprint']}"
        if "doi" in fields:
            link = f"https://doi.org/{fields['doi']}"
        found[key] = re.sub(r"[{}]", "", names or fields["title"]), fields.get("year", ""), link
    return found


def plain(source: str, page: Page) -> str:
    """Return MyST Markdown as plain Markdown: no directive, no role, references in words.

    References to what comes later are known only after the whole chapter has been through; convert
    it twice, with fresh `counts`.

    Raises:
        ValueError: A directive or role that has no counterpart here, or an unknown citation.
    """
    done, prose = [], []
    lines = source.splitlines()

    def flush() -> None:
        if prose:
            done.extend(_inline("\n".join(prose), page).split("\n"))
            prose.clear()

    at = 0
    while at < len(lines):
        line, begin = lines[at], at
        fence, target = FENCE.match(line), TARGET.match(line)
        at += 1
        if fence:
            flush()
            marks = fence[1]
            end = re.compile(rf"^ *{marks[0]}{{{len(marks)},}} *$")
            while at < len(lines) and not end.match(lines[at]):
                at += 1
            at += 1
            if fence[2]:
                body = lines[begin + 1 : at - 1]
                done.extend(_directive(fence[2], fence[3].strip(), body, page).split("\n"))
            else:
                done.extend(lines[begin:at])
        elif line.startswith("$$"):
            flush()
            while not (equation := EQUATION.match("\n".join(lines[begin:at]))) and at < len(lines):
                at += 1
            if not equation:
                raise ValueError(f"The equation after {line!r} does not end.")
            body, label = equation.groups()
            done.extend(_equation(body, label, page).split("\n"))
        elif target:
            heading = next((text for text in lines[at:] if text.strip()), "")
            page.labels[target[1]] = heading.lstrip("# ")
        elif not line.startswith("% "):
            prose.append(line)
    flush()
    return "\n".join(done).strip("\n")


def caption(text: str, label: str | None, page: Page) -> str:
    """Return a figure's caption as a paragraph of its own: "**Figure 3.** ..."."""
    return f"**{page.number('Figure', label)}.** {_inline(text, page)}"


def _equation(body: str, label: str | None, page: Page) -> str:
    """Return a displayed equation, numbered where it has a label."""
    tag = rf" \tag{{{page.number('Equation', label).strip('()')}}}" if label else ""
    return f"$$\n{body.strip()}{tag}\n$$"


def _options(body: list[str]) -> tuple[dict, list[str]]:
    """Split a directive's body into its options and its content."""
    if body and body[0].strip() == "---":
        end = body.index("---", 1)
        return yaml.safe_load("\n".join(body[1:end])) or {}, body[end + 1 :]
    options, at = {}, 0
    while at < len(body) and (match := re.match(r"^ *:([\w-]+):(.*)$", body[at])):
        options[match[1]] = match[2].strip()
        at += 1
    return options, body[at:]


def _directive(name: str, argument: str, body: list[str], page: Page) -> str:
    """Return what a directive says, in plain Markdown."""
    options, content = _options(body)
    label = options.get("name") or options.get("label")
    if name in {"math", "code", "code-block"}:
        text = "\n".join(content).strip("\n")
        return _equation(text, label, page) if name == "math" else f"```{argument}\n{text}\n```"
    inner = plain("\n".join(content), page)
    if name == "dropdown" or (name in ADMONITIONS and "dropdown" in options.get("class", "")):
        summary = _inline(argument, page) or name.title()
        return f"<details>\n<summary>{summary}</summary>\n\n{inner}\n\n</details>"
    if name in ADMONITIONS:
        titled = name in {"admonition", "sidebar", "topic"}
        title, first = (argument, "") if titled else (name.title(), argument)
        text = "\n\n".join(part for part in (f"**{title}.**", _inline(first, page), inner) if part)
        return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
    if name in {"figure", "image"}:
        picture = f"![{options.get('alt', '')}]({_address(argument, page)})"
        return f"{picture}\n\n{caption(inner, label, page)}" if name == "figure" else picture
    if name == "table":
        return f"**{page.number('Table', label)}.** {_inline(argument, page)}\n\n{inner}"
    if name == "tab-item":
        return f"**{argument}**\n\n{inner}"
    if name in UNWRAPPED:
        return inner
    raise ValueError(f"The directive {{{name}}} has no counterpart in a notebook.")


def _inline(text: str, page: Page) -> str:
    """Return text with its roles and links in plain Markdown; code stays as it is."""
    pieces, at = [], 0
    for match in CODE_OR_ROLE.finditer(text):
        pieces.append(LINK.sub(lambda link: _link(link, page), text[at : match.start()]))
        role, _, content = match.groups()
        pieces.append(_role(role, content.replace("\n", " "), page) if role else match[0])
        at = match.end()
    pieces.append(LINK.sub(lambda link: _link(link, page), text[at:]))
    return "".join(pieces)


def _role(role: str, content: str, page: Page) -> str:
    """Return what a role says, in plain Markdown."""
    titled = re.fullmatch(r"(.*\S)\s*<(.+)>", content)
    text, target = titled.groups() if titled else (content, content)
    if role.startswith("cite"):
        return _cite(role, content, page)
    if role in {"eq", "numref", "ref"}:
        return text if titled and "%s" not in text else page.labels.get(target, target)
    if role == "doc":
        return f"[{text}]({_address(target, page)})"
    if role == "math":
        return f"${content}$"
    if role in {"sub", "sup"}:
        return f"<{role}>{content}</{role}>"
    if role in {"term", "abbr"}:
        return text
    raise ValueError(f"The role {{{role}}} has no counterpart in a notebook.")


def _cite(role: str, keys: str, page: Page) -> str:
    """Return citations as links: "([He et al., 2016](...))", or within the sentence for cite:t."""
    within, words = role == "cite:t", []
    for key in keys.split(","):
        if key.strip() not in page.citations:
            raise ValueError(f"The bibliography has no entry {key.strip()!r}.")
        authors, year, link = page.citations[key.strip()]
        if year:
            authors += f" ({year})" if within else f", {year}"
        words.append(f"[{authors}]({link})" if link else authors)
    return " and ".join(words) if within else f"({'; '.join(words)})"


def _link(match: re.Match, page: Page) -> str:
    """Return a Markdown link or image with an address that a notebook can follow."""
    bang, text, target = match.groups()
    if target.startswith("#"):
        label = page.labels.get(target[1:])
        return text or label if label else f"[{text}]({target})"
    return f"{bang}[{text}]({_address(target, page)})"


def _address(target: str, page: Page) -> str:
    """Return where a page or picture, named relative to chapters/, is found from a notebook."""
    if re.match(r"[a-z]+:", target):
        return target
    file, _, part = target.partition("#")
    file = file.removeprefix("./").removeprefix("../chapters/").removeprefix("/chapters/")
    if Path(file).stem in page.chapters and Path(file).suffix in {"", ".md"}:
        return f"{Path(file).stem}.ipynb"
    if Path(file).suffix in {"", ".md"}:
        file = Path(file).with_suffix(".md").as_posix().lstrip("/").removeprefix("../")
        return f"{page.repository}/blob/main/{file}{'#' + part if part else ''}"
    inside = file.lstrip("/").removeprefix("../") if file.startswith(("/", "../")) else file
    return f"../{inside}" if inside != file else f"../chapters/{file}"
