"""Vectors of float32 and int32 as values inside numba functions: they live in registers.

numba turns scalar loops into vector code only where LLVM dares to; a register-tiled convolution it does not find. These
few operations on `<n x float>` say it outright. Only numba's documented extension points are used, and LLVM fits the
vectors to whatever CPU it compiles for (AVX-512, AVX2, SSE, NEON), so nothing here belongs to one machine.

In the names below n is the number of lanes, 8 or 16; arrays are one-dimensional, and indices are not checked.

    load<n>(a, i)        a[i : i + n]                      store<n>(a, i, v)      a[i : i + n] = v
    broadcast<n>(a, i)   a[i] in every lane                fma<n>(x, y, z)        x * y + z, rounded once
    pairs<n>(a, i)       a[i], a[i + 1], a[i], a[i + 1], ...
    add<n>(x, y)         x + y                             zero<n>()              zeros
    greater<n>(x, y, p, q), igreater<n>(...)               p where x > y, else q (p and q float32 or int32)
    isplat<n>(k)         the int32 k in every lane         iadd<n>, istore<n>     as add, store, for int32
    halves0(v), halves1  the even, the odd lanes of 16        ihalves0, ihalves1     the same for int32
    scalar(a, i)         a[i], without a test for negative i
    multiply_add(x, y, z)  x * y + z of single float32 values, rounded once
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = (8, 16)


class VectorType(types.Type):
    """The numba type of a vector of `n` lanes of float32 ("f") or int32 ("i")."""

    def __init__(self, n: int, kind: str) -> None:
        self.n, self.kind = n, kind
        super().__init__(name=f"vector<{n}, {kind}32>")

    @property
    def llvm(self) -> ir.VectorType:
        """The LLVM type it is in memory and in registers."""
        return ir.VectorType(ir.FloatType() if self.kind == "f" else ir.IntType(32), self.n)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, kind.llvm)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _in_every_lane(builder: Any, value: Any, n: int) -> Any:
    vector = ir.VectorType(value.type, n)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), n), [0] * n))


def _load(vector: VectorType) -> Callable[..., Any]:
    @intrinsic
    def load(typing: Any, array: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], args[0], args[1])
            return builder.load(builder.bitcast(address, vector.llvm.as_pointer()), align=4)

        return vector(array, types.intp), code

    return load


def _store(vector: VectorType) -> Callable[..., Any]:
    @intrinsic
    def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], args[0], args[1])
            builder.store(args[2], builder.bitcast(address, vector.llvm.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(array, types.intp, vector), code

    return store


def _greater(compared: VectorType, chosen: VectorType) -> Callable[..., Any]:
    @intrinsic
    def greater(typing: Any, x: Any, y: Any, p: Any, q: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

        return chosen(compared, compared, chosen, chosen), code

    return greater


def _multiply_add(kind: types.Type, llvm: ir.Type, suffix: str) -> Callable[..., Any]:
    @intrinsic
    def multiply_add(typing: Any, x: Any, y: Any, z: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(llvm, [llvm] * 3), f"llvm.fma.{suffix}"
            )
            return builder.call(function, args)

        return kind(kind, kind, kind), code

    return multiply_add


def _operations(n: int) -> dict[str, Callable[..., Any]]:
    floats, ints = VectorType(n, "f"), VectorType(n, "i")

    @intrinsic
    def broadcast(typing: Any, array: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], args[0], args[1])
            return _in_every_lane(builder, builder.load(address, align=4), n)

        return floats(array, types.intp), code

    @intrinsic
    def pairs(typing: Any, array: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address = _address(context, builder, signature.args[0], args[0], args[1])
            pair = builder.load(builder.bitcast(address, ir.VectorType(ir.FloatType(), 2).as_pointer()), align=4)
            mask = ir.Constant(ir.VectorType(ir.IntType(32), n), [0, 1] * (n // 2))
            return builder.shuffle_vector(pair, ir.Constant(pair.type, ir.Undefined), mask)

        return floats(array, types.intp), code

    @intrinsic
    def zero(typing: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return ir.Constant(floats.llvm, [0.0] * n)

        return floats(), code

    @intrinsic
    def add(typing: Any, x: Any, y: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.fadd(args[0], args[1])

        return floats(floats, floats), code

    @intrinsic
    def isplat(typing: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _in_every_lane(builder, args[0], n)

        return ints(types.int32), code

    @intrinsic
    def iadd(typing: Any, x: Any, y: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.add(args[0], args[1])

        return ints(ints, ints), code

    return {
        f"load{n}": _load(floats),
        f"store{n}": _store(floats),
        f"istore{n}": _store(ints),
        f"broadcast{n}": broadcast,
        f"pairs{n}": pairs,
        f"zero{n}": zero,
        f"fma{n}": _multiply_add(floats, floats.llvm, f"v{n}f32"),
        f"add{n}": add,
        f"isplat{n}": isplat,
        f"iadd{n}": iadd,
        f"greater{n}": _greater(floats, floats),
        f"igreater{n}": _greater(floats, ints),
    }


@intrinsic
def scalar(typing: Any, array: Any, index: Any) -> Any:
    """The value array[index]; index is not checked and not wrapped around."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], args[0], args[1]))

    return array.dtype(array, types.intp), code


def _half(kind: str, first: int) -> Callable[..., Any]:
    whole, part = VectorType(16, kind), VectorType(8, kind)

    @intrinsic
    def half(typing: Any, vector: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), 8), list(range(first, 16, 2)))
            return builder.shuffle_vector(args[0], ir.Constant(whole.llvm, ir.Undefined), mask)

        return part(whole), code

    return half


OPERATIONS: dict[str, Any] = {
    "scalar": scalar,
    "multiply_add": _multiply_add(types.float32, ir.FloatType(), "f32"),
}
for _first in (0, 1):
    OPERATIONS |= {f"halves{_first}": _half("f", _first), f"ihalves{_first}": _half("i", _first)}
for _n in LANES:
    OPERATIONS |= _operations(_n)
