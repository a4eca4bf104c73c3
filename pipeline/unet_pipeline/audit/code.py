"""What Python code of a bundle would do, read from its syntax tree: expressions of configs and modules. Nothing is evaluated."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from unet_pipeline.audit.names import BUILTINS, DENIED_ATTRIBUTES, MODULES, SHADOWED, Verdict, classify, classify_module
from unet_pipeline.config_values import CODE_MODULES
from unet_pipeline.messages import DANGER, WARNING


def _words(text: str) -> list[str]:
    return text.split()


ADDRESS = re.compile(
    r"\b(?:https?|ftps?|s3|gs|ssh|wss?|tcp|smb|git\+\w+)://[^\s'\"<>)\]]+|^\\\\\w[\w.-]*\\", re.IGNORECASE
)
# a string that a component would turn into code: a reader, a writer, a merger named by its path
_PATH_TO_CODE = re.compile(r"(?:[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)+")
NAMES_CODE = ("reader", "writer", "merger_cls", "workflow_name", "workflow_type", "backend_class")
REFERENCES = "__local_refs"  # MONAI's name for what "@" refers to
_ATTRIBUTE_IN_TEXT = re.compile(r"__\w+__")
# a local variable may be called `input`; that it is called `eval` would only hide the builtin
_NEVER_REDEFINED = frozenset(
    _words("""
eval exec compile open getattr setattr delattr globals locals breakpoint __import__
""")
)


@dataclass(frozen=True)
class Suspicion:
    """A part of the code that is not allowed: where (line), the text, how bad, and why."""

    line: int
    text: str
    verdict: Verdict


@dataclass
class Scope:
    """Names that code can use: what was imported under which name, what is defined here, and the bundle's own modules."""

    imported: dict[str, str] = field(default_factory=dict)
    own: Set[str] = frozenset()
    defined: Set[str] = frozenset()


def inspect_tree(tree: ast.AST, scope: Scope) -> Iterator[Suspicion]:
    """Everything in a syntax tree that is outside of what a bundle may do."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        found, below = _inspect_node(node, scope)
        yield from found
        pending += below


def _inspect_node(node: ast.AST, scope: Scope) -> tuple[list[Suspicion], list[ast.AST]]:
    """Suspicions of one node, and the nodes below that are still to be looked at."""
    match node:
        case ast.Import() | ast.ImportFrom():
            return _inspect_import(node, scope), []
        case ast.Call() if _loads_weights_only(node, scope):
            return [], [*node.args, *(keyword.value for keyword in node.keywords)]
        case ast.Call(func=ast.Name(id="setattr"), args=[target, ast.Constant(value=str(name)), value]) if (
            not name.startswith("_") and _name_of(target, scope).startswith("torch.backends")
        ):
            return [], [target, value]
        case ast.Call(func=ast.Name(id="getattr" | "setattr"), args=[target, ast.Constant(value=str(name)), *more]):
            return [], [ast.copy_location(ast.Attribute(target, name, ast.Load()), node), *more]
        case ast.keyword(arg=str(argument), value=ast.Constant(value=str(text))) if argument in NAMES_CODE:
            return _suspect(node.value, text, judge_code_name(text, scope.own)), []
        case ast.Constant(value=str(text)):
            return _suspect(node, text, judge_text(text)), []
        case ast.Attribute() if name := _name_of(node, scope):
            return _suspect(node, ast.unparse(node), classify(name, scope.own)), []
        case ast.Attribute(attr=attribute, value=value):
            return _suspect(node, f".{attribute}", _judge_attribute(attribute)), [value]
        case ast.Name(id=name):
            return _suspect(node, name, _judge_name(name, scope)), []
    return [], list(ast.iter_child_nodes(node))


def _suspect(node: ast.AST, text: str, verdict: Verdict) -> list[Suspicion]:
    return [Suspicion(getattr(node, "lineno", 1), text, verdict)] if verdict.severity else []


def _inspect_import(node: ast.Import | ast.ImportFrom, scope: Scope) -> list[Suspicion]:
    found = []
    for alias in node.names:
        if isinstance(node, ast.Import):
            verdict = classify_module(alias.name, scope.own)
        elif node.level or (node.module or "") in scope.own:
            verdict = Verdict()  # of the bundle itself
        else:
            name = f"{node.module}.{alias.name}"
            verdict = classify(name, scope.own) if alias.name != "*" else classify_module(node.module or "", scope.own)
        found += _suspect(node, f"import of {getattr(node, 'module', None) or alias.name}", verdict)
    return found


def list_imports(tree: ast.AST) -> dict[str, str]:
    """Name in the code -> dotted name of what it stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds a; MONAI binds the whole name "a.b", which no expression can use
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names if not node.level
            }
    return names


def _name_of(node: ast.AST, scope: Scope) -> str:
    """Dotted name that an attribute chain stands for; empty where it begins with something else than a module."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id == REFERENCES:
        return ""
    first = scope.imported.get(node.id, node.id)
    known = node.id in scope.imported or (
        node.id not in scope.defined
        and (first in SHADOWED or first in MODULES or first in scope.own or first == "builtins")
    )
    return ".".join([first, *reversed(parts)]) if known and parts else ""


def _judge_name(name: str, scope: Scope) -> Verdict:
    """A name on its own, such as a function that is called or handed over."""
    if name == REFERENCES:
        return Verdict()
    if name in scope.imported:
        whole = scope.imported[name]
        return classify(whole, scope.own) if "." in whole else classify_module(whole, scope.own)
    if name.startswith("__"):
        return (
            Verdict(DANGER, "reaches the inside of Python")
            if name not in ("__name__", "__file__", "__all__")
            else Verdict()
        )
    if hasattr(builtins, name):
        harmless = name in BUILTINS or (name in scope.defined and name not in _NEVER_REDEFINED)
        return Verdict() if harmless else Verdict(DANGER, "can run or write anything")
    if name in scope.defined or name in MODULES or name == "np" or name in scope.own:
        return Verdict()
    if name in SHADOWED:
        return classify_module(name, scope.own)
    return Verdict(DANGER, "is a name that nothing in the bundle's configs brings in")


def _judge_attribute(attribute: str) -> Verdict:
    if attribute.startswith("__") and attribute not in (
        "__init__",
        "__name__",
        "__len__",
        "__getitem__",
        "__call__",
        "__iter__",
        "__class__",
    ):
        return Verdict(DANGER, "reaches the inside of Python objects")
    if attribute in DENIED_ATTRIBUTES or attribute in CODE_MODULES:
        return Verdict(DANGER, "can load code, start programs or write files")
    return Verdict()


def judge_text(text: str) -> Verdict:
    """A string in code or in a config."""
    if _ATTRIBUTE_IN_TEXT.search(text) and len(text) < 200 and text not in ("__main__", "__all__"):
        return Verdict(DANGER, "names the inside of Python objects in a text")
    if _PATH_TO_CODE.fullmatch(text) and text.partition(".")[0] in CODE_MODULES:
        return Verdict(DANGER, "names a function that some components look up and call")
    if ADDRESS.search(text):
        return Verdict(WARNING, "is a network address")
    return Verdict()


def judge_code_name(text: str, own: Set[str]) -> Verdict:
    """A string under a key whose value a component looks up as a dotted name, such as the reader of LoadImage."""
    return classify(text, own) if _PATH_TO_CODE.fullmatch(text) else Verdict()


def _loads_weights_only(node: ast.Call, scope: Scope) -> bool:
    only = any(
        keyword.arg == "weights_only" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in node.keywords
    )
    return only and _name_of(node.func, scope) == "torch.load"


def bound_names(tree: ast.AST) -> frozenset[str]:
    """Names that comprehensions, lambdas, assignments and definitions bind anywhere in a tree."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
    return frozenset(names)
