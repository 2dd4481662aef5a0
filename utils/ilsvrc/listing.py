"""A chapter's network and its `fit` in one piece, without the page around them."""

import ast
import symtable
from typing import NamedTuple

from ilsvrc import chapters

BUILDS, TRAINS = "input_shape", "callbacks"  # parameters that tell builders and fits


class Statement(NamedTuple):
    """A statement of a chapter's cells tagged `model`, with the comments above it."""

    node: ast.stmt
    text: str
    defines: frozenset[str]
    uses: frozenset[str]


def listing(name: str) -> str:
    """Return a chapter's network and how it is trained, as one piece of Python that runs by itself.

    Of the cells tagged `model` it holds the functions that take an `input_shape` (the builders),
    those that take `callbacks` (`fit` and its variants), and all that these use, in the page's
    order. What the page measures and draws with is left out. Nothing is executed.

    Args:
        name: Such as "2015_resnet".

    Raises:
        ValueError: There is no such chapter, or it builds no network.
    """
    statements = _statements(name)
    wanted = {one.node.name for one in statements if _begins(one.node)}
    if not wanted:
        raise ValueError(f"The chapter {name!r} builds no network.")
    chosen = set()
    while new := {one for one in statements if one.defines & wanted} - chosen:
        chosen |= new
        wanted = wanted.union(*(one.uses for one in new))
    text, before = [f"# The networks of chapters/{name}.md, and how they are trained."], None
    for one in (one for one in statements if one in chosen):
        text += [_gap(before, one.node) + _trimmed(one, wanted)]
        before = one.node
    return "\n".join(text) + "\n"


def coloured(source: str) -> str:
    """Return Python source with a terminal's colours."""
    from pygments import formatters, highlight, lexers

    return highlight(source, lexers.PythonLexer(), formatters.TerminalFormatter())


def _statements(name: str) -> list[Statement]:
    """Return the statements of a chapter's cells tagged `model`, in the page's order."""
    found = []
    for cell in chapters.cells(chapters.path(name)):
        if cell.kind == "code" and "model" in cell.tags:
            lines, end = cell.source.splitlines(), 0
            for node in ast.parse(cell.source).body:
                text = "\n".join(lines[end : node.end_lineno]).strip("\n")
                table = symtable.symtable(text, name, "exec")
                defines = {s.get_name() for s in table.get_symbols() if _binds(s)}
                found.append(Statement(node, text, frozenset(defines), frozenset(_used(table))))
                end = node.end_lineno
    return found


def _binds(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported()


def _used(table: symtable.SymbolTable) -> set[str]:
    """Return the names of the module that some code uses, those inside its functions included."""
    top = table.get_type() == "module"
    here = {
        s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())
    }
    return here.union(*map(_used, table.get_children()))


def _begins(node: ast.stmt) -> bool:
    """Return whether a statement is a builder or a fit."""
    return isinstance(node, ast.FunctionDef) and any(
        argument.arg in (BUILDS, TRAINS) for argument in node.args.args
    )


def _trimmed(statement: Statement, wanted: set[str]) -> str:
    """Return a statement's text; of an import, the names that are wanted."""
    node = statement.node
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return statement.text
    kept = [one for one in node.names if (one.asname or one.name.split(".")[0]) in wanted]
    fields = dict(ast.iter_fields(node)) | {"names": kept}
    return ast.unparse(type(node)(**fields))


def _gap(before: ast.stmt | None, node: ast.stmt) -> str:
    """Return the empty lines between two statements."""
    imports, large = ast.Import | ast.ImportFrom, ast.FunctionDef | ast.ClassDef
    if isinstance(before, imports) and isinstance(node, imports):
        return ""
    return "\n\n" if isinstance(before, large) or isinstance(node, large) else "\n"
