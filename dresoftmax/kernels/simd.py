"""Vectors of eight numbers, for the inner loops of the kernels.

Numba's own vectorisation stops at loops that keep several rows or several sums
in registers.  Here a vector is a value, float64 or float32, that compiled code
may load, compute with and store; LLVM turns it into the registers that the
processor has.  Operations are done in the order in which they are written,
except that a product and a sum may be one instruction.
"""

from __future__ import annotations

import operator
from itertools import product

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = ["LANES", "add_four", "first", "larger", "load", "scaled", "smaller", "splat", "store",
           "total", "totals", "wide"]  # fmt: skip

LANES = 8

INT32, INT64 = ir.IntType(32), ir.IntType(64)
INTS = ir.VectorType(INT32, LANES)
FLAGS = ("contract",)


class Vector(types.Type):
    """The type of a vector, for Numba."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """Its layout: LLVM's vector."""

    def __init__(self, dmm, fe_type):
        element = ir.DoubleType() if fe_type.dtype == types.float64 else ir.FloatType()
        super().__init__(dmm, fe_type, ir.VectorType(element, LANES))


WIDE, NARROW = Vector(types.float64), Vector(types.float32)


def _cast(context, builder, value, source, target):
    """Return a vector or a scalar as a vector of type `target`."""
    if source == target:
        return value
    if isinstance(source, Vector):
        return builder.fpext(value, context.get_value_type(target))
    return _splat(builder, context.cast(builder, value, source, target.dtype))


def _splat(builder, value, lanes=LANES):
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(undefined, value, INT32(0))
    zeros = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, undefined, zeros)


def _mask(builder, count):
    """Return which lanes come before `count`; for a constant this is one, too."""
    lanes = ir.Constant(INTS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, _splat(builder, builder.trunc(count, INT32)))


def _pointer(context, builder, array_type, array, index_type, index, pointee):
    """Return the address of an entry of an array."""
    parts = (
        cgutils.unpack_tuple(builder, index) if isinstance(index_type, types.BaseTuple) else [index]
    )
    kinds = index_type.types if isinstance(index_type, types.BaseTuple) else [index_type]
    places = [context.cast(builder, *pair, types.intp) for pair in zip(parts, kinds, strict=True)]
    view = context.make_array(array_type)(context, builder, array)
    address = cgutils.get_item_pointer(context, builder, array_type, view, places)
    return builder.bitcast(address, pointee.as_pointer())


@intrinsic
def load(typing, array, index, count):
    """Return the entries from `index` on, with zeros in the place of all after `count`."""
    kind = Vector(array.dtype)

    def generate(context, builder, sig, args):
        vector = context.get_value_type(kind)
        pointer = _pointer(context, builder, array, args[0], index, args[1], vector)
        lanes = _mask(builder, context.cast(builder, args[2], count, types.intp))
        parts = [pointer, INT32(kind.dtype.bitwidth // 8), lanes, ir.Constant(vector, None)]
        name = f"llvm.masked.load.v{LANES}f{kind.dtype.bitwidth}.p0"
        function = ir.FunctionType(vector, [part.type for part in parts])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), parts)

    return kind(array, index, count), generate


@intrinsic
def store(typing, array, index, vector):
    """Set the eight entries from `index` on."""

    def generate(context, builder, sig, args):
        pointer = _pointer(context, builder, array, args[0], index, args[1], args[2].type)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)

    return types.void(array, index, vector), generate


@intrinsic
def add_four(typing, array, index, value, factors, place):
    """Add `value` times four entries of `factors` to four of an array."""

    def generate(context, builder, sig, args):
        four = ir.VectorType(ir.DoubleType(), 4)
        to = _pointer(context, builder, array, args[0], index, args[1], four)
        by = _pointer(context, builder, factors, args[3], place, args[4], four)
        value = context.cast(builder, args[2], sig.args[2], types.float64)
        scaled = builder.fmul(_splat(builder, value, 4), builder.load(by, align=8), flags=FLAGS)
        builder.store(builder.fadd(builder.load(to, align=8), scaled, flags=FLAGS), to, align=8)

    return types.void(array, index, value, factors, place), generate


@intrinsic
def splat(typing, value):
    """Return a vector with the same number in each lane."""
    kind = Vector(value)
    return kind(value), lambda context, builder, sig, args: _splat(builder, args[0])


@intrinsic
def wide(typing, vector):
    """Return the vector as float64."""

    def generate(context, builder, sig, args):
        return _cast(context, builder, args[0], vector, WIDE)

    return WIDE(vector), generate


@intrinsic
def first(typing, vector, count):
    """Return the vector with zeros in the place of all lanes after `count`."""

    def generate(context, builder, sig, args):
        lanes = _mask(builder, context.cast(builder, args[1], count, types.intp))
        return builder.select(lanes, args[0], ir.Constant(args[0].type, None))

    return vector(vector, count), generate


def _choice(comparison):
    def choose(typing, a, b):
        def generate(context, builder, sig, args):
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return a(a, b), generate

    return choose


# Lane by lane; the second argument if one is NaN.
larger, smaller = intrinsic(_choice(">")), intrinsic(_choice("<"))


@intrinsic
def scaled(typing, vector, power):
    """Return vector·2ᵏ, with the integers k in the last bits of the mantissas of `power`."""

    def generate(context, builder, sig, args):
        integers = ir.VectorType(INT64, LANES)
        bits, exponents = (builder.bitcast(arg, integers) for arg in args)
        shifted = builder.shl(exponents, ir.Constant(integers, [52] * LANES))
        return builder.bitcast(builder.add(bits, shifted), args[0].type)

    return WIDE(WIDE, WIDE), generate


@intrinsic
def totals(typing, vectors):
    """Return the sums over the lanes of each of eight vectors, as a vector."""
    kind = vectors.dtype

    def generate(context, builder, sig, args):
        parts = cgutils.unpack_tuple(builder, args[0])
        width = 1
        while len(parts) > 1:
            # Lanes lie in runs of `width`; every other run of the two is added to the next.
            lanes = [lane for lane in range(LANES) if lane // width % 2 == 0]
            runs = [lanes[i : i + width] for i in range(0, len(lanes), width)]
            low = [lane + side * LANES for run in runs for side in (0, 1) for lane in run]
            masks = [ir.Constant(INTS, [lane + shift for lane in low]) for shift in (0, width)]
            parts = [
                builder.fadd(*(builder.shuffle_vector(a, b, mask) for mask in masks), flags=FLAGS)
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
            width *= 2
        return parts[0]

    return kind(vectors), generate


@intrinsic
def total(typing, vector):
    """Return the sum over the lanes."""

    def generate(context, builder, sig, args):
        value = args[0]
        undefined = ir.Constant(value.type, ir.Undefined)
        for width in (4, 2, 1):
            other = ir.Constant(INTS, [(lane + width) % LANES for lane in range(LANES)])
            value = builder.fadd(value, builder.shuffle_vector(value, undefined, other))
        return builder.extract_element(value, INT32(0))

    return types.float64(WIDE), generate


def _define(operation, instruction):
    """Let an operator take vectors, of which the wider decides, and scalars."""
    wide = [signature(WIDE, *pair) for pair in product((NARROW, WIDE, types.float64), repeat=2)]
    cases = [signature(NARROW, NARROW, NARROW), *wide[1:-1]]
    infer_global(operation)(type("Template", (ConcreteTemplate,), {"cases": cases}))

    def lower(context, builder, sig, args):
        parts = [
            _cast(context, builder, arg, kind, sig.return_type)
            for arg, kind in zip(args, sig.args, strict=True)
        ]
        return getattr(builder, instruction)(*parts, flags=FLAGS)

    for case in cases:
        lower_builtin(operation, *case.args)(lower)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
