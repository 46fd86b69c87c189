# SPDX-License-Identifier: Apache-2.0
"""liblight from Python, as far as parity.py needs it: the public functions of <light/*.h>, called through ctypes.

An int goes as int64_t, a float as double, a bool as bool; structs go by value. Failures raise with the library's text.
"""
import ctypes as C
import os

DTYPES = {"f64": 1, "f32": 2, "bf16": 3, "f16": 4, "i64": 5, "i32": 6, "u8": 7, "bool": 8}
MAX_DIMS = 8


class Shape(C.Structure):
    _fields_ = [("ndim", C.c_int), ("dims", C.c_int64 * MAX_DIMS)]

    def __init__(self, *dims):
        super().__init__(len(dims), (C.c_int64 * MAX_DIMS)(*dims))


class Dims(C.Structure):
    """LIGHT_DIMS(..); none given: LIGHT_ALL."""
    _fields_ = [("n", C.c_int), ("dims", C.c_int * MAX_DIMS)]

    def __init__(self, *dims):
        super().__init__(len(dims), (C.c_int * MAX_DIMS)(*dims))


Pair = C.c_int64 * 2


class Conv(C.Structure):
    _fields_ = [("stride", Pair), ("padding", Pair), ("dilation", Pair), ("output_padding", Pair),
                ("groups", C.c_int64)]

    def __init__(self, stride=1, padding=0, dilation=1, output_padding=0, groups=1):
        super().__init__(*(Pair(n, n) for n in (stride, padding, dilation, output_padding)), groups)


class Pool(C.Structure):
    _fields_ = [("kernel", Pair), ("stride", Pair), ("padding", Pair), ("dilation", Pair), ("ceil_mode", C.c_bool),
                ("exclude_padding", C.c_bool)]

    def __init__(self, kernel, stride, padding):
        super().__init__(*(Pair(n, n) for n in (kernel, stride, padding)))


class Sdpa(C.Structure):
    _fields_ = [("causal", C.c_bool), ("scale", C.c_double), ("dropout_p", C.c_double)]


class Loss(C.Structure):
    _fields_ = [("target", C.c_void_p), ("reduction", C.c_int), ("weight", C.c_void_p),
                ("label_smoothing", C.c_double), ("ignore_index", C.c_int64), ("delta", C.c_double),
                ("log_target", C.c_bool)]


class StepOptions(C.Structure):
    _fields_ = [("device", C.c_void_p), ("seed", C.c_uint64), ("inference", C.c_bool)]


class Init(C.Structure):
    _fields_ = [("kind", C.c_int), ("a", C.c_double), ("b", C.c_double)]


class ParameterSet(C.Structure):
    _fields_ = [("root", C.c_void_p), ("accepts", C.c_void_p), ("user", C.c_void_p)]


class OptimizerOptions(C.Structure):
    _fields_ = [("lr", C.c_double), ("weight_decay", C.c_double), ("momentum", C.c_double), ("dampening", C.c_double),
                ("nesterov", C.c_bool), ("betas", C.c_double * 2), ("eps", C.c_double), ("amsgrad", C.c_bool),
                ("alpha", C.c_double), ("centered", C.c_bool), ("lr_decay", C.c_double),
                ("initial_accumulator_value", C.c_double), ("maximize", C.c_bool)]


InitHook = C.CFUNCTYPE(C.c_int, C.c_void_p)


class Vtable(C.Structure):
    """The first fields of light_module_vtable; the library takes the rest as NULL."""
    _fields_ = [("size", C.c_size_t), ("name", C.c_char_p), ("instance_size", C.c_size_t), ("options", C.c_void_p),
                ("manual_optimization", C.c_bool), ("init", InitHook)]


class Tensor(C.c_void_p):
    pass


def argument(value):
    if value is None:
        return C.c_void_p(None)
    for kind, to in ((bool, C.c_bool), (int, C.c_int64), (float, C.c_double)):
        if isinstance(value, kind):
            return to(value)
    return value


def load_carried(build):
    """The libraries that carry.sh gathered, but for those that the process has already: PyTorch comes first."""
    folders = (os.path.join(build, "libs"), os.path.join(build, "libs", "cuda"))
    left = [os.path.join(folder, name) for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)
            if ".so" in name]
    with open("/proc/self/maps") as maps:
        present = {os.path.basename(line.split()[-1]) for line in maps}
    left = [path for path in left if os.path.basename(path) not in present]
    while left:
        waiting = []
        for path in left:
            try:
                C.CDLL(path, C.RTLD_GLOBAL)
            except OSError:     # needs one that comes later, or nothing here does
                waiting.append(path)
        if len(waiting) == len(left):
            return
        left = waiting


class Light:
    """The library on one device, with one step. light.gelu(x) is light_gelu(step, x)."""

    def __init__(self, build, device):
        load_carried(build)
        self.functions = C.CDLL(os.path.join(build, "liblight.so"))
        self.functions.light_error_message.restype = C.c_char_p
        self.functions.light_device_name.restype = C.c_char_p
        self.device, self.step = C.c_void_p(), C.c_void_p()
        self.check(self.functions.light_device_get(device.encode(), C.byref(self.device)))
        self.name = self.functions.light_device_name(self.device).decode()
        self.functions.light_set_default_device.restype = C.c_void_p
        self.functions.light_set_default_device(self.device)
        options = StepOptions(self.device.value, 1, False)
        self.check(self.functions.light_step_new_with(C.byref(self.step), C.byref(options)))

    def check(self, status):
        if status:
            raise RuntimeError(self.functions.light_error_message().decode())

    def begin(self):
        self.check(self.functions.light_step_begin(self.step))

    def __getattr__(self, name):
        function = self.functions["light_" + name]    # its own object: restype is this call's alone
        function.restype = C.c_void_p

        def call(*arguments):
            found = function(self.step, *(argument(a) for a in arguments))
            if found is None:
                raise RuntimeError(self.functions.light_error_message().decode())
            return Tensor(found)
        return call

    def loss(self, name, x, target, **options):
        if "weight" in options:
            options["weight"] = options["weight"].value
        return getattr(self, name + "_with")(x, C.byref(Loss(target=target.value, **options)))

    def join(self, name, parts, dim):
        return getattr(self, name)((C.c_void_p * len(parts))(*(p.value for p in parts)), len(parts), dim)

    def split(self, x, size, dim, n):
        parts, function = (C.c_void_p * n)(), self.functions["light_split"]
        function.restype = C.c_bool
        if not function(self.step, x, C.c_int64(size), dim, parts, n):
            raise RuntimeError(self.functions.light_error_message().decode())
        return [Tensor(part) for part in parts]

    def pad(self, x, pads, value):
        return self.__getattr__("pad")(x, (C.c_int64 * len(pads))(*pads), len(pads), value)

    # ---- owned tensors; `values` and what read gives are contiguous NumPy arrays of float64 or int64

    def write(self, tensor, values):
        kind = DTYPES["i64" if values.dtype.kind == "i" else "f64"]
        self.check(self.functions.light_tensor_write(tensor, kind, values.ctypes.data_as(C.c_void_p),
                                                   C.c_size_t(values.nbytes)))

    def tensor(self, values, dtype, requires_grad=False):
        made = Tensor()
        self.check(self.functions.light_tensor_new(C.byref(made), Shape(*values.shape), DTYPES[dtype], self.device))
        self.write(made, values)
        if requires_grad:
            self.functions.light_set_requires_grad(made, True)
        return made

    def numel(self, tensor):
        function = self.functions["light_numel"]
        function.restype = C.c_int64
        return function(tensor)

    def read(self, tensor, like):
        """The elements, into an array of the shape and kind of `like`."""
        if self.numel(tensor) != like.size:
            raise RuntimeError(f"{self.numel(tensor)} elements, PyTorch has {like.size}")
        found = like.copy()
        kind = DTYPES["i64" if like.dtype.kind == "i" else "f64"]
        self.check(self.functions.light_tensor_read(tensor, kind, found.ctypes.data_as(C.c_void_p),
                                                  C.c_size_t(found.nbytes)))
        return found

    def grad(self, tensor):
        function = self.functions["light_grad"]
        function.restype = C.c_void_p
        return Tensor(function(tensor))

    def item(self, tensor):
        value = C.c_double()
        self.check(self.functions.light_item(tensor, C.byref(value)))
        return value.value

    def free(self, tensor):
        self.functions.light_tensor_free(tensor)

    def backward(self, loss, grad=None):
        if grad is None:
            self.check(self.functions.light_backward(self.step, loss))
        else:
            self.check(self.functions.light_backward_from(self.step, loss, grad))


class Model:
    """A module of nothing but parameters, with an optimizer: name -> tensor in .weights."""

    def __init__(self, light, values, optimizer, **options):
        self.light, self.slots = light, {name: C.c_void_p() for name in values}
        library = light.functions

        def init(module):
            for name, slot in self.slots.items():
                status = library.light_add_parameter(C.c_void_p(module), C.byref(slot), name.encode(),
                                                     Shape(*values[name].shape), Init())
                if status:
                    return status
            return 0

        # Kept: the module points at it.
        self.vtable = Vtable(C.sizeof(Vtable), b"parity", 4096, None, False, InitHook(init))
        library.light_module_new.restype = C.c_void_p
        self.module = C.c_void_p(library.light_module_new(C.byref(self.vtable)))
        light.check(library.light_module_build(self.module, C.c_uint64(1)))
        self.weights = {name: Tensor(slot.value) for name, slot in self.slots.items()}
        for name, tensor in self.weights.items():
            light.write(tensor, values[name])
        make = library[f"light_{optimizer}_with"]
        make.restype = C.c_void_p
        self.optimizer = C.c_void_p(make(ParameterSet(self.module.value), C.byref(OptimizerOptions(**options))))

    def update(self):
        self.light.check(self.light.functions.light_optimizer_step_now(self.optimizer, C.c_void_p()))
        self.light.functions.light_optimizer_zero_grad(self.optimizer)

    def free(self):
        self.light.functions.light_optimizer_free(self.optimizer)
        self.light.functions.light_module_free(self.module)
