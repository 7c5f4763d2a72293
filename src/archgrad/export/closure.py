"""The source closure of a space: the code that its builder needs, and no more, as one file's text.

Starting from the builder, the source of every function, class and constant that it mentions is
collected, through archgrad's modules and the user's own; imports of installed libraries stay imports.
A `Table` becomes a dictionary of the entries that the architecture uses, so the code of candidates
that were not chosen stays out.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from archgrad.errors import UserError
from archgrad.export.candidates import Candidates, entry_target
from archgrad.export.module_source import Definition, Import, ModuleSource
from archgrad.table import Table

NOT_CHOSEN = '''def not_chosen(*args: object, **settings: object) -> NoReturn:
    """Stands for a candidate that the architecture does not use; its code is not in this file."""
    raise LookupError("this candidate was not chosen by the architecture of this file")
'''


class Piece(NamedTuple):
    """A stretch of the file: text that binds `name`; see `Definition` for the other fields."""

    name: str
    module: str
    line: int
    text: str
    block: bool
    needs: tuple[str, ...]  # sorted, so that the file is the same every time
    needs_at_once: tuple[str, ...]


class Closure:
    """Collects pieces and imports from a builder.

    Args:
        candidates: what a build and a run of the concrete network looked up and called.
        own: names of top-level packages whose source is copied although they may be installed.
    """

    def __init__(self, candidates: Candidates, own: Iterable[str]) -> None:
        self.imports: dict[Import, None] = {}
        self.own_packages = set(own)
        self._candidates = candidates
        self._pieces: dict[str, Piece] = {}
        self._origins: dict[str, str] = {}
        self._imported: dict[str, object] = {}
        self._modules: dict[str, ModuleSource] = {}

    def reserve(self, name: str) -> None:
        """Keep `name` for the file's own tail; a piece of that name is then a collision."""
        self._claim(name, "the end of model.py itself")

    def add(self, module: str, name: str) -> None:
        """Add the global `name` of `module` and everything that it needs.

        Raises:
            UserError: something cannot be copied, or two modules use one name for different things.
        """
        source = self._source(module)
        binding = source.binding(name)
        if binding is None:
            return
        if isinstance(binding, Import):
            self._add_import(source, binding)
        elif isinstance(table := source.value(name), Table):
            self._add_table(binding, table)
        elif self._claim(name, f"{module}, line {binding.line}"):
            self._add_definition(binding)

    def add_import(self, wanted: Import) -> None:
        """Add an import of an installed library.

        Raises:
            UserError: the name is taken by something else.
        """
        value: object = importlib.import_module(wanted.module)
        package = wanted.attribute is None and wanted.name == wanted.module.partition(".")[0]
        if package:
            value = sys.modules[wanted.name]  # `import a.b` binds a
        elif wanted.attribute is not None:
            value = getattr(value, wanted.attribute)
        if wanted.name not in self._imported:
            self._claim(wanted.name, f"{wanted.attribute or 'the module itself'} of {wanted.module}")
            self._imported[wanted.name] = value
            self.imports[wanted] = None
        elif self._imported[wanted.name] is not value:
            self._claim(wanted.name, f"{wanted.attribute or 'the module itself'} of {wanted.module}")
        elif package:
            self.imports[wanted] = None  # `import a` and `import a.b` are both wanted

    def ordered(self) -> list[Piece]:
        """The pieces: module by module, imported ones first, in each in the order of its source."""
        modules: dict[str, None] = {}

        def visit(module: str, path: tuple[str, ...]) -> None:
            if module in modules or module in path:
                return
            for piece in self._pieces.values():
                if piece.module == module:
                    for needed in piece.needs:
                        if needed in self._pieces:
                            visit(self._pieces[needed].module, (*path, module))
            modules[module] = None

        for piece in self._pieces.values():
            visit(piece.module, ())
        rank = {module: position for position, module in enumerate(modules)}
        readable = sorted(self._pieces.values(), key=lambda p: (rank[p.module], p.line))
        final: dict[str, Piece] = {}

        # Modules that need one another, or a table put in another's place, can leave a base class too late.
        def emit(piece: Piece, path: tuple[str, ...]) -> None:
            if piece.name in final or piece.name in path:
                return
            for needed in piece.needs_at_once:
                if needed in self._pieces:
                    emit(self._pieces[needed], (*path, piece.name))
            final[piece.name] = piece

        for piece in readable:
            emit(piece, ())
        return list(final.values())

    def requirements(self) -> list[str]:
        """Top-level packages that the file imports and that Python does not come with."""
        roots = {wanted.module.partition(".")[0] for wanted in self.imports}
        return sorted(roots - sys.stdlib_module_names)

    def is_own(self, module: str) -> bool:
        """Whether the module's source is to be copied: archgrad's, the builder's, or not installed."""
        root = module.partition(".")[0]
        if root in self.own_packages or root == "__main__":
            return True
        if root in sys.stdlib_module_names:
            return False
        if module in sys.modules:
            file = getattr(sys.modules[module], "__file__", None)
        else:  # imported for type checkers only
            spec = importlib.util.find_spec(module)
            file = spec.origin if spec else None
        return file is not None and not _is_installed(Path(file))

    def _source(self, module: str) -> ModuleSource:
        if module not in self._modules:
            self._modules[module] = ModuleSource(module)
        return self._modules[module]

    def _claim(self, name: str, origin: str) -> bool:
        """Whether `name` is new; an error when it already stands for something else."""
        if name not in self._origins:
            self._origins[name] = origin
            return True
        if self._origins[name] == origin:
            return False
        raise UserError(
            f"the name {name!r} stands for two things, and model.py is one file: {self._origins[name]}; "
            f"and {origin}. Rename one of them"
        )

    def _add_definition(self, definition: Definition) -> None:
        source = self._source(definition.module)
        self._refuse_module_attributes(source, definition)
        needs = tuple(sorted(definition.uses - {definition.name}))
        at_once = tuple(sorted(definition.uses_at_once - {definition.name}))
        self._pieces[definition.name] = Piece(
            definition.name,
            definition.module,
            definition.line,
            definition.text,
            definition.block,
            needs,
            at_once,
        )
        for name in needs:
            self.add(definition.module, name)

    def _refuse_module_attributes(self, source: ModuleSource, definition: Definition) -> None:
        """``blocks.Conv`` cannot be copied as it stands when `blocks` is a module of the user's."""
        for node in ast.walk(ast.parse(definition.text)):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                continue
            name = node.value.id
            value = source.value(name)
            if name not in definition.uses:
                continue
            if isinstance(value, ModuleType) and self.is_own(value.__name__):
                raise UserError(
                    f"{definition.module}, {definition.name!r} uses {name}.{node.attr}: write "
                    f"'from {value.__name__} import {node.attr}' instead, for model.py to hold its source"
                )
            if isinstance(value, Table):
                raise UserError(
                    f"{definition.module}, {definition.name!r} uses {name}.{node.attr}; in model.py {name} "
                    f"is a dictionary: use only {name}[…], iteration and 'in'"
                )

    def _add_import(self, source: ModuleSource, binding: Import) -> None:
        if not self.is_own(binding.module):
            self.add_import(binding)
            return
        if binding.attribute is None:
            raise UserError(
                f"{source.name} uses the module {binding.name!r} as a whole; write 'from {binding.module} "
                "import …' with the names needed, so that model.py can hold their source"
            )
        if isinstance(source.value(binding.name), ModuleType):
            return  # its uses are attributes, which _refuse_module_attributes explains
        home = self._home(binding.module, binding.attribute, source.value(binding.name))
        target = home.binding(binding.attribute)
        if isinstance(target, Import):  # re-exported: follow it, under the name used here
            self._add_import(home, Import(target.module, target.attribute, binding.name))
            return
        self.add(home.name, binding.attribute)
        if binding.name != binding.attribute and self._claim(
            binding.name, f"{source.name}, an import of {binding.module}.{binding.attribute}"
        ):
            needs = (binding.attribute,)
            text = f"{binding.name} = {binding.attribute}\n"
            self._pieces[binding.name] = Piece(binding.name, source.name, 0, text, False, needs, needs)

    def _home(self, module: str, attribute: str, value: object) -> ModuleSource:
        """The module whose source binds `attribute`: `module`, or where its lazy ``__getattr__`` finds it."""
        source = self._source(module)
        if source.binds(attribute):
            return source
        root = module.partition(".")[0]
        for name in sorted(n for n in sys.modules if n.partition(".")[0] == root):
            held = getattr(sys.modules[name], "__dict__", {})
            if held.get(attribute) is value and self._source(name).binds(attribute):
                return self._source(name)
        return source  # whose binding() then says what is wrong

    def _add_table(self, definition: Definition, table: Table) -> None:
        """A dictionary in the table's place: what was called; the rest of what is looked up says why not."""
        if not self._claim(definition.name, f"{definition.module}, line {definition.line}"):
            return
        called, only_looked_up = self._candidates.lookups(table)
        order = [*table, *(n for n in (*called, *only_looked_up) if n not in table.entries)]
        rows, needs = [], []
        for name in order:
            if name in called:
                part = self._add_entry(table, name)
            elif name in only_looked_up:
                part = "not_chosen"
                self._add_not_chosen()
            else:
                continue
            rows.append(f"    {name!r}: {part},\n".replace("'", '"'))
            needs.append(part)
        comment = f"# The {table.family}s that the architecture uses.\n"
        text = comment + f"{definition.name} = {{\n{''.join(rows)}}}\n"
        self._pieces[definition.name] = Piece(
            definition.name, definition.module, definition.line, text, False, tuple(needs), tuple(needs)
        )

    def _add_entry(self, table: Table, name: str) -> str:
        """Add the object behind a table's entry; returns the name that it has in the file."""
        module, attribute = entry_target(table, name)
        if self.is_own(module):
            binding = self._source(module).binding(attribute)
            if isinstance(binding, Import):
                self._add_import(self._source(module), binding)
            else:
                self.add(module, attribute)
        else:
            self.add_import(Import(module, attribute, attribute))
        return attribute

    def _add_not_chosen(self) -> None:
        if self._claim("not_chosen", "archgrad's stand-in for candidates that were not chosen"):
            self.add_import(Import("typing", "NoReturn", "NoReturn"))
            self._pieces["not_chosen"] = Piece("not_chosen", "archgrad.export", 0, NOT_CHOSEN, True, (), ())


def locate(builder: Callable[..., Any]) -> tuple[str, str]:
    """(module, name) of a builder that is a top-level function or class of a module.

    Raises:
        UserError: it is something else, so that its source cannot be copied.
    """
    name = getattr(builder, "__qualname__", None)
    module = getattr(builder, "__module__", None)
    held = vars(sys.modules[module]).get(name) if module in sys.modules and isinstance(name, str) else None
    if not isinstance(name, str) or not isinstance(module, str) or held is not builder:
        raise UserError(
            f"the stand-alone model.py is made from the source of the space, and {builder!r} is no top-level "
            "function or class of an importable module: put it into a .py file and import it from there"
        )
    return module, name


def import_lines(imports: Iterable[Import]) -> str:
    """The imports as sorted lines: the standard library's, a blank line, the others."""
    groups: dict[bool, list[Import]] = {True: [], False: []}
    for wanted in imports:
        groups[wanted.module.partition(".")[0] in sys.stdlib_module_names].append(wanted)
    return "\n".join("".join(_import_group(group)) for group in groups.values() if group)


def _import_group(group: list[Import]) -> Iterator[str]:
    for wanted in sorted((i for i in group if i.attribute is None), key=lambda i: (i.module, i.name)):
        bound = wanted.module.partition(".")[0]
        yield f"import {wanted.module}" + ("\n" if wanted.name == bound else f" as {wanted.name}\n")
    members: dict[str, list[str]] = {}
    for wanted in group:
        if wanted.attribute is not None:
            renamed = "" if wanted.name == wanted.attribute else f" as {wanted.name}"
            members.setdefault(wanted.module, []).append(wanted.attribute + renamed)
    for module, names in sorted(members.items()):
        line = f"from {module} import {', '.join(sorted(names))}\n"
        if len(line) > 111:
            line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in sorted(names)) + ")\n"
        yield line


def body(pieces: Iterable[Piece]) -> str:
    """The pieces as text, with a comment wherever the module that they come from changes."""
    text, module, after_block = "", "", True
    for piece in pieces:
        gap = "\n\n" if piece.block or after_block or piece.module != module else ""
        heading = f"# ---- from {piece.module}\n\n\n" if piece.module != module else ""
        if heading and not piece.block:
            heading = heading.rstrip("\n") + "\n\n"
        text += gap + heading + piece.text
        module, after_block = piece.module, piece.block
    return text.lstrip("\n")


def _is_installed(file: Path) -> bool:
    """Whether a module's file lies where installers put libraries."""
    paths = sysconfig.get_paths()
    libraries = [Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    resolved = file.resolve()
    return bool({"site-packages", "dist-packages"} & set(resolved.parts)) or any(
        resolved.is_relative_to(library) for library in libraries
    )
