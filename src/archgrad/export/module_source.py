"""The source of one module, by top-level name: its text, and the global names that the text mentions."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import itertools
import symtable
from collections.abc import Iterator
from dataclasses import dataclass

from archgrad.errors import UserError

_FUTURE = "from __future__ import annotations\n"
_COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr", "lambda"}


@dataclass(frozen=True)
class Import:
    """A name bound by an import: ``from module import attribute as name``, or ``import module as name``."""

    module: str
    attribute: str | None  # None: the module itself
    name: str


@dataclass(frozen=True)
class Definition:
    """A top-level function, class or assignment.

    uses: global names anywhere in it. uses_at_once: those that must exist when the statement runs
    (base classes, decorators, defaults), not only when a function of it is called.
    """

    module: str
    name: str
    text: str
    line: int
    block: bool  # a function or class, which wants two blank lines around it
    uses: frozenset[str]
    uses_at_once: frozenset[str]


class ModuleSource:
    """A module's top-level bindings, read from its source file.

    Raises:
        UserError: the module's source cannot be had.
    """

    def __init__(self, module_name: str) -> None:
        self.name = module_name
        self.module = importlib.import_module(module_name)
        try:
            self._text = inspect.getsource(self.module)
        except (OSError, TypeError):
            raise UserError(
                f"the source of module {module_name!r} is not available, and the stand-alone model.py is "
                "made from it: put the space into a .py file and import it from there"
            ) from None
        self._lines = self._text.splitlines(keepends=True)
        self._bindings: dict[str, list[ast.stmt]] = {}
        body = ast.parse(self._text).body
        self._follower = dict(itertools.pairwise(body))
        for statement in body:
            for name in _bound_names(statement):
                self._bindings.setdefault(name, []).append(statement)

    def value(self, name: str) -> object:
        """The object that the imported module holds under `name`."""
        return vars(self.module).get(name)

    def binds(self, name: str) -> bool:
        """Whether a top-level statement binds `name`."""
        return name in self._bindings

    def binding(self, name: str) -> Import | Definition | None:
        """What binds the global `name`; None for a builtin.

        Raises:
            UserError: it is bound in a way that cannot be copied: several times, by a star import, or
                inside an if, for, try or with block.
        """
        statements = self._bindings.get(name)
        if statements is None:
            if hasattr(builtins, name) or name.startswith("__"):
                return None
            raise UserError(
                f"{self.name} uses {name!r}, which no top-level statement of it binds by name: define it "
                "there or write 'from … import …' with its name, so that it can be copied into model.py"
            )
        if len(statements) > 1:
            lines = ", ".join(str(s.lineno) for s in statements)
            raise UserError(
                f"{self.name} binds {name!r} more than once (lines {lines}): bind it once, so that model.py "
                "is sure to get the right one"
            )
        statement = statements[0]
        if isinstance(statement, ast.If) and _is_type_checking(statement):
            statement = next((s for s in statement.body if name in set(_bound_names(s))), statement)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return self._import(statement, name)
        if isinstance(
            statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        ):
            return self._definition(statement, name)
        raise UserError(
            f"{self.name}, line {statement.lineno}: {name!r} is not bound by a plain top-level def, class, "
            "assignment or import, and a stand-alone model.py can be made of these only"
        )

    def _import(self, statement: ast.Import | ast.ImportFrom, name: str) -> Import:
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                # `import a.b` binds a, `import a.b as c` binds a.b
                if name == (alias.asname or alias.name.partition(".")[0]):
                    return Import(alias.name, None, name)
            elif name == (alias.asname or alias.name):
                relative = "." * statement.level + (statement.module or "")
                package = self.module.__package__ if statement.level else None
                return Import(importlib.util.resolve_name(relative, package), alias.name, name)
        raise AssertionError(name)

    def _definition(self, statement: ast.stmt, name: str) -> Definition:
        text = self._segment(statement)
        block = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                raise UserError(
                    f"{self.name}, line {node.lineno}: {name!r} imports inside its body; move the import to "
                    "the top of the module, so that model.py can have it"
                )
        return Definition(
            module=self.name,
            name=name,
            text=text,
            line=statement.lineno,
            block=block,
            uses=frozenset(_all_globals(text)),
            uses_at_once=frozenset(_globals_at_once(text, block)),
        )

    def _segment(self, statement: ast.stmt) -> str:
        """The statement's lines with its decorators, the comment right above, and an attribute docstring."""
        assert statement.end_lineno is not None
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(d.lineno for d in decorators)])
        last = statement.end_lineno
        while first > 1 and self._lines[first - 2].startswith("#"):
            first -= 1
        follower = self._follower.get(statement)
        if (
            isinstance(statement, ast.Assign | ast.AnnAssign)
            and isinstance(follower, ast.Expr)
            and isinstance(follower.value, ast.Constant)
            and isinstance(follower.value.value, str)
        ):
            assert follower.end_lineno is not None
            last = follower.end_lineno
        return "".join(self._lines[first - 1 : last]).rstrip() + "\n"


def _is_type_checking(statement: ast.If) -> bool:
    return ast.unparse(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """The global names that a top-level statement binds; inside blocks, too, but not inside functions."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import):
        yield from (a.asname or a.name.partition(".")[0] for a in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (a.asname or a.name for a in statement.names)
    else:
        for child in ast.iter_child_nodes(statement):
            yield from _bound_in(child)


def _bound_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.stmt):
        yield from _bound_names(node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, ast.Lambda | ast.comprehension):
        for child in ast.iter_child_nodes(node):
            yield from _bound_in(child)


def _all_globals(text: str) -> set[str]:
    """Every global name that a statement mentions, annotations included (quoted ones, too)."""
    # Without the __future__ import the symbol table treats annotations like any other expression.
    names = set(_referenced(symtable.symtable(text, "<statement>", "exec"), only_at_once=False))
    for node in ast.walk(ast.parse(text)):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(annotation, ast.AST):
            for quoted in _quoted(annotation):
                names |= {n.id for n in ast.walk(ast.parse(quoted, mode="eval")) if isinstance(n, ast.Name)}
    return names


def _quoted(annotation: ast.AST) -> Iterator[str]:
    """The strings of an annotation that stand for types; those inside ``Literal[…]`` are values."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield annotation.value
    literal = isinstance(annotation, ast.Subscript) and "Literal" in ast.dump(annotation.value)
    for child in () if literal else ast.iter_child_nodes(annotation):
        yield from _quoted(child)


def _globals_at_once(text: str, block: bool) -> set[str]:
    """The global names that have to exist when the statement runs; annotations do not count."""
    table = symtable.symtable(_FUTURE + text, "<statement>", "exec")
    return set(_referenced(table, only_at_once=block)) - {"annotations"}


def _referenced(table: symtable.SymbolTable, only_at_once: bool) -> Iterator[str]:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        runs_now = child.get_type() == "class" or child.get_name() in _COMPREHENSIONS
        if runs_now or not only_at_once:
            yield from _referenced(child, only_at_once)
