"""A recipe's key: a short name for what is trained and how, on which an outcome hangs.

The key follows the source of a builder and of a `fit`, and all that they use of the course:
helpers, classes, tables, constants, defaults. Comments, docstrings, annotations, messages of errors
and the names of local variables do not count. What Keras and other libraries bring counts by its
name, and so does `ilsvrc.backend`, which says what a machine adds. A key is the same on every
Python.
"""

import ast
import copy
import functools
import hashlib
import inspect
import linecache
import types

import numpy as np

SHORT = 16  # hexadecimal digits
NAMED = ("ilsvrc.backend",)  # modules of the course that count by name alone


def recipe(plan, digest: str) -> str:
    """Return the key of a plan on data of a digest, whatever the machine.

    Args:
        plan: A `profiles.Plan`.
        digest: Of the data set (`data.Dataset.digest`).

    Raises:
        ValueError: The recipe uses something that has no lasting description.
    """
    fixed = (plan.size, plan.images, plan.epochs, plan.batch, digest)
    seen = {}
    parts = [repr(fixed), *(part for f in (plan.build, plan.run.fit) for part in _of(f, seen))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:SHORT]


def _of(thing, seen: dict):
    """Yield what a value is, as strings that are the same in every process and on every Python.

    `seen` numbers what was described already, by identity.
    """
    if isinstance(thing, functools.partial):
        yield from _of((thing.func, thing.args, thing.keywords), seen)
    elif isinstance(thing, list | tuple):
        yield f"{len(thing)} values"
        for value in thing:
            yield from _of(value, seen)
    elif isinstance(thing, set | frozenset):
        yield from sorted("\n".join(_of(value, seen)) for value in thing)
    elif isinstance(thing, dict):
        yield f"{len(thing)} entries"
        for item in thing.items():
            yield from _of(item, seen)
    elif isinstance(thing, np.ndarray):
        yield f"array {thing.dtype} {thing.shape} {hashlib.sha256(thing.tobytes()).hexdigest()}"
    elif isinstance(thing, np.generic):
        yield repr(thing.item())
    elif thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        yield repr(thing)
    elif id(thing) in seen:
        yield f"again {seen[id(thing)][0]}"
    else:
        seen[id(thing)] = len(seen), thing  # held, so that no other thing gets its identity
        yield from _definition(thing, seen)


def _definition(thing, seen: dict):
    """Yield a function, a class or an object of either."""
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if isinstance(thing, types.MethodType):
        yield from _of((thing.__func__, thing.__self__), seen)
    elif isinstance(thing, types.FunctionType) and _ours(thing):
        yield from _function(thing, seen)
    elif isinstance(thing, type):
        yield f"class {_place(thing)}"
        if _ours(thing):
            yield from _class(thing, seen)
    elif callable(thing) and hasattr(thing, "__qualname__"):
        yield f"function {_place(thing)}"
    elif hasattr(thing, "get_config"):  # a layer, an initialiser, a schedule, ... of Keras
        yield from _of((type(thing), thing.get_config()), seen)
    elif hasattr(thing, "__dict__") and _ours(type(thing)):
        yield from _of((type(thing), dict(sorted(vars(thing).items()))), seen)
    else:
        raise ValueError(
            f"A recipe uses {thing!r}, of which no key can tell whether it changed. Give the "
            "builder and `fit` plain data: numbers, text, lists, tables, functions."
        )


def _ours(thing) -> bool:
    """Return whether something is defined by the course: by a chapter, a notebook, the package."""
    module = thing.__module__ or ""
    return module.split(".")[0] in ("ilsvrc", "__main__") and module not in NAMED


def _place(thing) -> str:
    """Return a definition's name; libraries move their modules, so these count by their first."""
    return f"{'course' if _ours(thing) else thing.__module__.split('.')[0]}.{thing.__qualname__}"


def _class(cls: type, seen: dict):
    """Yield a class's bases and members; what Python itself adds does not count."""
    yield from _of(cls.__bases__, seen)
    for name, member in sorted(vars(cls).items()):
        member = getattr(member, "__func__", getattr(member, "fget", member))
        member = member.func if isinstance(member, functools.cached_property) else member
        if isinstance(member, types.FunctionType):
            counts = _source(member) is not None
        else:
            counts = not name.startswith("__") and not hasattr(member, "__get__")
        if counts:
            yield name
            yield from _of(member, seen)


def _function(function, seen: dict):
    """Yield a function's source, its defaults, and what it uses of the course."""
    yield from _of((function.__defaults__, function.__kwdefaults__), seen)
    source = _source(function)
    if source is None:
        yield f"function {_place(function)}"
        return
    written, free = source
    yield written
    for name in free:
        for value in _values(function, name):
            yield name
            yield from _of(value, seen)


def _values(function, name: str):
    """Yield what a dotted name means in a function; nothing for a library's module, a built-in."""
    root, *rest = name.split(".")
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if root in cells:
        value = cells[root].cell_contents
    elif root in function.__globals__:
        value = function.__globals__[root]
    else:
        return
    for attribute in rest:  # through modules of the course: augment.RandomCrop
        if not isinstance(value, types.ModuleType) or not value.__name__.startswith("ilsvrc"):
            break
        value = getattr(value, attribute)
    if not isinstance(value, types.ModuleType):
        yield value


# Source and its canonical form


@functools.lru_cache(maxsize=64)
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _source(function) -> tuple[str, list[str]] | None:
    """Return a function's canonical source and its free names, or None where there is no source."""
    code = function.__code__
    return _read(code, "".join(linecache.getlines(code.co_filename, function.__globals__)))


@functools.lru_cache(maxsize=4096)
def _read(code: types.CodeType, source: str) -> tuple[str, list[str]] | None:
    node = _node(code, source)
    if node is None:
        return None
    node = _Plain().visit(copy.deepcopy(node))
    names = _Names()
    names.visit(node)
    return _written(node), names.free


def _node(code: types.CodeType, source: str) -> ast.AST | None:
    """Return the syntax that a code object was compiled from, or None where it is not there."""
    places = [(line, column) for line, _, column, _ in code.co_positions() if line and column]
    for node in ast.walk(_tree(source)):
        if not isinstance(node, SCOPES) or getattr(node, "name", "<lambda>") != code.co_name:
            continue
        first = min(one.lineno for one in [node, *getattr(node, "decorator_list", [])])
        body = node.body if isinstance(node, ast.Lambda) else node
        start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
        if first == code.co_firstlineno and any(start <= place <= end for place in places):
            return node
    return None


class _Plain(ast.NodeTransformer):
    """Takes away what does not act: docstrings, annotations, the messages of errors."""

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant):  # a docstring
            return ast.Pass()
        return self.generic_visit(node)

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        if node.value is None:
            return ast.Pass()
        return self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Raise(self, node):
        return ast.Raise()


class _Names(ast.NodeVisitor):
    """Gives local variables the same names however they are called, and collects free names.

    Attributes:
        free: The dotted names that are not the function's own, in order of appearance.
    """

    def __init__(self):
        self.scopes, self.free, self.count = [], [], 0

    def visit_Name(self, node):
        node.id = self._name(node.id)

    def visit_Attribute(self, node):
        root, chain = node, []
        while isinstance(root, ast.Attribute):
            chain.insert(0, root.attr)
            root = root.value
        if isinstance(root, ast.Name):
            root.id = self._name(root.id, *chain)
        else:
            self.visit(root)

    def visit_ExceptHandler(self, node):
        node.name = node.name and self._name(node.name)
        self.generic_visit(node)

    def generic_visit(self, node):
        if isinstance(node, SCOPES):
            self._function(node)
        elif isinstance(node, COMPREHENSIONS):
            self.visit(node.generators[0].iter)
            self._inside(node, [], [one.target for one in node.generators])
        else:
            super().generic_visit(node)

    def _function(self, node):
        if self.scopes and hasattr(node, "name"):
            node.name = self._name(node.name)
        elif hasattr(node, "name"):
            node.name = "function"
        arguments = node.args
        for outer in (*arguments.defaults, *arguments.kw_defaults, *_decorators(node)):
            if outer is not None:
                self.visit(outer)
        given = list(ast.walk(arguments))
        if not self.scopes:  # their values count: of a function within, what is written
            arguments.defaults, arguments.kw_defaults = [], []
        body = node.body if isinstance(node.body, list) else [node.body]
        self._inside(node, [one.arg for one in given if isinstance(one, ast.arg)], body)

    def _inside(self, node, arguments, body):
        """Visit what has a scope of its own, with its arguments and the names that it assigns."""
        scope = {name: name for name in arguments}
        for name in (name for part in body for name in _assigned(part)):
            if name not in scope:
                scope[name], self.count = f"local{self.count}", self.count + 1
        self.scopes.append(scope)
        seen = [*_decorators(node), getattr(node, "args", None)]
        for child in ast.iter_child_nodes(node):
            if child not in seen:  # what stands in the scope around it
                self.visit(child)
        self.scopes.pop()

    def _name(self, name, *chain):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        dotted = ".".join([name, *chain])
        if dotted not in self.free:
            self.free.append(dotted)
        return name


def _decorators(node) -> list:
    return getattr(node, "decorator_list", [])


def _assigned(node):
    """Yield the names that a piece of syntax assigns in its own scope, in order."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
        yield node.name
    if isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]
    if not isinstance(node, (*SCOPES, *COMPREHENSIONS, ast.ClassDef)):
        for child in ast.iter_child_nodes(node):
            yield from _assigned(child)


def _written(node) -> str:
    """Write a syntax tree, the same on every Python: what is empty is left out."""
    if isinstance(node, list):
        return f"[{', '.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    left_out = ("ctx", "kind", "type_comment")
    fields = [
        f"{name}={_written(value)}"
        for name, value in ast.iter_fields(node)
        if value is not None and value != [] and name not in left_out
    ]
    return f"{type(node).__name__}({', '.join(fields)})"
