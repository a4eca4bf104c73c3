"""Pickles in a bundle's weights and arrays: what loading them would call, read from their opcodes. Nothing is unpickled.

A pickle is a program for a small stack machine. The machine is followed only as far as texts go, which is what names the
functions; a name that is put together in another way is a danger by itself.
"""

from __future__ import annotations

import io
import pickletools
import re
from typing import Any, BinaryIO

from unet_pipeline.messages import DANGER, WARNING, Message, Problem


def _words(text: str) -> list[str]:
    return text.split()


# what torch.load(weights_only=True) builds, as dotted names; a test compares with PyTorch's own list
_DTYPES = _words("""
float32 float64 float16 bfloat16 complex32 complex64 complex128 uint8 int8 int16 int32 int64 bool quint8 qint8 qint32
quint4x2 quint2x4 float8_e5m2 float8_e4m3fn float8_e5m2fnuz float8_e4m3fnuz float8_e8m0fnu float4_e2m1fn_x2 uint16
uint32 uint64 uint1 uint2 uint3 uint4 uint5 uint6 uint7 int1 int2 int3 int4 int5 int6 int7 bits8 bits16 bits1x8 bits2x4
bits4x2 per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric per_channel_affine_float_qparams
""")
_NUMBERS = _words("""
Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble ComplexFloat QUInt8 QInt8 QInt32 QUInt4x2
QUInt2x4
""")
_REBUILD = _words("""
parameter parameter_with_state qtensor tensor tensor_v2 tensor_v3 sparse_tensor meta_tensor_no_storage nested_tensor
wrapper_subclass device_tensor_from_numpy device_tensor_from_cpu_tensor
""")
_KINDS = ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse")
WEIGHTS_ONLY = frozenset(
    [
        *[
            "collections.OrderedDict",
            "collections.Counter",
            "torch.nn.parameter.Parameter",
            "torch.serialization._get_layout",
        ],
        *_words("""
torch.Size torch.Tensor torch.device _codecs.encode builtins.bytearray __builtin__.bytearray builtins.set
"""),
        *["builtins.complex", "__builtin__.complex", "__builtin__.set", "torch._tensor._rebuild_from_type_v2"],
        *["torch.storage.TypedStorage", "torch.storage.UntypedStorage"],
        *(f"torch.{dtype}" for dtype in _DTYPES),
        *(f"torch._utils._rebuild_{name}" for name in _REBUILD),
        *(f"{kind}.{number}{thing}" for kind in _KINDS for number in _NUMBERS for thing in ("Storage", "Tensor")),
    ]
)
# they build arrays and numbers, but weights_only=True refuses them
_HARMLESS = re.compile(
    r"(numpy(\._?core)?(\.multiarray|\.numeric)?\.(_reconstruct|scalar|ndarray|dtype|_frombuffer)|numpy\.dtypes\.\w+DType"
    r"|(builtins|__builtin__)\.(list|dict|tuple|int|float|str|bytes|frozenset|slice|range|object)"
    r"|collections\.(defaultdict|deque)|datetime\.(date|datetime|time|timedelta|timezone)|copyreg\._reconstructor"
    r"|pathlib\.(PosixPath|WindowsPath|PurePath|PurePosixPath|PureWindowsPath))"
)
_OF_TORCHSCRIPT = re.compile(r"__torch__\.|torch\.jit\._pickle\.")
_MAX_OPCODES = 20_000_000

PICKLE_CALLS = Message.of_bundle(
    "pickle-unsafe",
    DANGER,
    "calls {text} when it is unpickled",
    "That runs as soon as the file is loaded, before anything can be checked.",
    "Do not load it; ask for weights that torch.load(weights_only=True) takes.",
)
PICKLE_EXTRA = Message.of_bundle(
    "pickle-not-only-weights",
    WARNING,
    "holds {text} besides tensors",
    "It is harmless, but torch.load(weights_only=True) refuses it.",
    "Ask for a plain state_dict.",
)
PICKLE_BROKEN = Message.of_bundle(
    "pickle-unreadable",
    DANGER,
    "has a pickle that cannot be followed to its end: {text}",
    "What comes before the fault would run when it is loaded.",
    "Do not load it; get the file again.",
)
OBJECT_ARRAY = Message.of_bundle(
    "array-of-objects",
    DANGER,
    "is an array of Python objects, which are pickled",
    "`numpy.load` with allow_pickle=True runs what the pickle says.",
    "Do not load it with allow_pickle; ask for an array of numbers.",
)
ARRAY_BROKEN = Message.of_bundle(
    "array-unreadable", WARNING, "has a header that cannot be read", "It is no array.", "Get the file again."
)


class _Machine:
    """The stack of a pickle, with texts kept and everything else as None."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, None] = {}

    def run(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow one opcode; raises IndexError where the stack has too little."""
        name = opcode.name
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo.get(int(argument)))
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            if name == "STACK_GLOBAL":
                self.names[_join(self.stack[-2], self.stack[-1])] = None
            elif name in ("GLOBAL", "INST"):
                self.names[_join(*str(argument).split(" ", 1))] = None
            elif name in ("EXT1", "EXT2", "EXT4"):
                self.names[f"extension {argument} of copyreg"] = None
            self._move(opcode, argument)

    def _move(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        before = [item.name for item in opcode.stack_before]
        if "mark" in before:
            del self.stack[self.marks.pop() :]
            before = before[: before.index("mark")]
        if len(before) > len(self.stack):
            raise IndexError("its stack is empty")
        del self.stack[len(self.stack) - len(before) :]
        text = argument if (isinstance(argument, str) and "UNICODE" in opcode.name) or "STRING" in opcode.name else None
        self.stack += [text for _ in opcode.stack_after]


def _join(module: Any, name: Any = None) -> str:
    if isinstance(module, str) and isinstance(name, str):
        return f"{module}.{name}"
    return "something whose name is put together while it is loaded"


def list_globals(stream: BinaryIO) -> tuple[tuple[str, ...], str]:
    """Dotted names of everything that the next pickle of a stream looks up, and why it could not be followed to its end."""
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            machine.run(opcode, argument)
            if count > _MAX_OPCODES:
                return tuple(machine.names), "it is too long"
    except Exception as error:  # the faults of a damaged or hostile pickle have many kinds
        return tuple(machine.names), (" ".join(str(error).split()) or type(error).__name__)[:100]
    return tuple(machine.names), ""


def audit_pickle(file: str, stream: BinaryIO, torchscript: bool = False) -> list[Problem]:
    """Findings about one pickle, from where the stream is to the pickle's end."""
    names, fault = list_globals(stream)
    findings = []
    for name in names:
        if name in WEIGHTS_ONLY or (torchscript and _OF_TORCHSCRIPT.match(name)):
            continue
        notice = PICKLE_EXTRA if _HARMLESS.fullmatch(name) else PICKLE_CALLS
        findings.append(notice.about(file, text=name))
    return [*findings, *([PICKLE_BROKEN.about(file, text=fault)] if fault else [])]


def audit_legacy_weights(file: str, stream: BinaryIO) -> list[Problem]:
    """The old format of torch.save: pickles one after the other, then the raw numbers; also a plain pickle."""
    findings: list[Problem] = []
    first = stream.read(64)
    stream.seek(0)
    # the format begins with a magic number, a version and a description of the machine
    has_magic = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in first
    for _ in range(5 if has_magic else 1):
        findings += audit_pickle(file, stream)
        if any(finding.code == PICKLE_BROKEN.code for finding in findings):
            break
    if not has_magic and (more := stream.read(2)) and more[:1] == b"\x80":
        stream.seek(-len(more), io.SEEK_CUR)
        findings += audit_pickle(file, stream)
    return list(dict.fromkeys(findings))


def audit_array(file: str, stream: BinaryIO) -> list[Problem]:
    """A .npy file: an array of objects is a pickle."""
    start = stream.read(12)
    if start[:6] != b"\x93NUMPY" or len(start) < 12:
        stream.seek(0)
        if start[:1] == b"\x80":  # numpy.load takes a plain pickle under this name too
            return audit_legacy_weights(file, stream)
        return [ARRAY_BROKEN.about(file)]
    size = int.from_bytes(start[8:10], "little") if start[6] == 1 else int.from_bytes(start[8:12], "little")
    stream.seek(10 if start[6] == 1 else 12)
    header = stream.read(min(size, 1 << 20))
    kind = re.search(rb"['\"]descr['\"]\s*:\s*(.*?)['\"]fortran_order", header, re.DOTALL)
    if kind is None:
        return [ARRAY_BROKEN.about(file)]
    if not re.search(rb"['\"][<>|=]?O\d*['\"]", kind[1]):
        return []
    return [OBJECT_ARRAY.about(file), *audit_pickle(file, stream)]


def is_pickle(start: bytes) -> bool:
    """Whether bytes begin as a binary pickle does."""
    return len(start) >= 2 and start[0] == 0x80 and 2 <= start[1] <= 5
