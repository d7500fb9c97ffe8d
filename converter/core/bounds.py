"""Bounds: what a file may ask for, in one table.  A reader that counts, nests or allocates takes its limit from here.

What bounds time and memory is a file's own size where that can be (``COPIES``, ``INFLATED``).  The others are well
above what any DenseNet has.  A file that exceeds one is refused in one line; what is only looked for is not found.
"""

from densenet.bounds import PIXELS, WIDTH, Bound

__all__ = ["PIXELS", "WIDTH", "Bound"]

# -- every format ------------------------------------------------------------------------------

DIMENSIONS = Bound(32, "dimensions of an array", "numpy's own, before its version 2")
NAME = Bound(
    1 << 13, "characters of a name", "DenseNet-264's tensors have 37, with prefixes more; paths of calls are longer"
)
JSON = Bound(
    12 << 20, "bytes of a JSON text", "a program of torch.export takes 2.5 kB an operator, DenseNet-264 has a thousand"
)
CONTAINERS = Bound(
    1 << 20,
    "lists and objects of a JSON text",
    "a program of torch.export takes 51 an operator, DenseNet-264 has a thousand",
)
CONFIG = Bound(1 << 20, "bytes of a text beside a checkpoint", "ImageNet's class names take 13 kB")
INDEX = Bound(16 << 20, "bytes of an index of shards", "a tensor takes its name and a file's")

ARRAYS = Bound(1 << 15, "arrays of a file", "DenseNet-264 has 1,591, with two moments each 4,000")
FIELDS = Bound(300_000, "fields of a message of Protocol Buffers", "DenseNet-264 has 40,000 in all, as ONNX")
NUMBERS = Bound(1 << 16, "numbers of a list in a message, weights apart", "shapes, kernels and paddings have a few")

# -- archives and compression ----------------------------------------------------------------------

ARCHIVES = Bound(3, "archives within each other", "a checkpoint in a tar in a gzip is two")
MEMBERS = Bound(10_000, "members of a tar", "a checkpoint with what was packed beside it has a few")
TAR_HEADER = Bound(1 << 16, "bytes of a header that says the next member's name or size", "a path has 4096 at most")
INFLATED = Bound(1100, "times the size that something compressed unpacks to", "deflate does 1032 at best")
LARGE = Bound(1 << 26, "bytes from which a member is large", "below, the ratio of any compression is let pass")
LARGE_INFLATED = Bound(32, "times its file's size that something large has, unpacked", "weights hardly shrink")
DIRECTORY = Bound(4 << 20, "bytes of a zip's directory", "a member takes some 100, an array is one")
MANIFEST = Bound(1 << 20, "bytes of TorchServe's manifest", "it names a handful of files")

# -- pickles and PyTorch ---------------------------------------------------------------------------------

OPCODES = Bound(1 << 18, "opcodes of a pickle, beyond one for two bytes", "each costs up to a microsecond")
OBJECTS = Bound(1 << 16, "objects of a pickle, beyond one for six bytes", "a pair of small numbers takes six")
MEMO = Bound(1 << 16, "objects a pickle remembers, beyond one for six bytes", "each costs some 100 bytes")
COPIES = Bound(4, "times a pickle's size that its builders copy", "a state dict is copied once")
PICKLES = Bound(3, "pickles within each other", "a model pickled into a pickled dict is two")
EXPANDED = Bound(1 << 16, "elements of a tensor beyond its storage's", "expand gives strides of 0: any norm's")
CODE = Bound(1 << 20, "bytes of a file of TorchScript's code", "a file holds the code of one class, or of one network")
GRAPH_CODE = Bound(1 << 22, "characters of a GraphModule's code", "a line for an operator")
METADATA = Bound(1 << 28, "bytes of torch.distributed's .metadata", "it has no weights")
CHUNKS = Bound(1 << 10, "chunks of a tensor of torch.distributed", "one for each process that saved")

# -- other formats ------------------------------------------------------------------------------------------

SAFETENSORS_HEADER = Bound(100_000_000, "bytes of a safetensors header", "the format's own (its src/tensor.rs)")
NPY_HEADER = Bound(1 << 16, "bytes of an .npy header", "numpy's own for the versions it writes")
T7_VALUES = Bound(1 << 19, "values of a Lua Torch file, elements of tensors apart", "a module has some thirty fields")
T7_NESTED = Bound(128, "objects of Lua Torch within each other", "the deepest network of the official code has 30")
MSGPACK_VALUES = Bound(1 << 17, "values of a msgpack, elements of arrays apart", "an array of flax' has four")
MSGPACK_NESTED = Bound(64, "maps of a msgpack within each other", "a name of flax' has six parts")
PROTOTXT = Bound(1 << 20, "bytes of a prototxt", "DenseNet-201 has 200 kB")
PROTOTXT_NESTED = Bound(32, "messages of a prototxt within each other", "a layer's parameters are the third")
PROTOTXTS = Bound(8, "other .prototxt files looked at beside a .caffemodel", "training and deployment are two")
BESIDE = Bound(64, "descriptions looked at beside a file of weights that may be named in one", "a folder has a few")
NCNN_PARAM = Bound(1 << 20, "bytes of ncnn's .param", "DenseNet-121 has 40 kB")
PADDLE_DESC = Bound(256, "bytes that describe a parameter of Paddle", "a type and four sizes")
IR = Bound(16 << 20, "bytes of the XML of an OpenVINO IR", "DenseNet-264 has 2 MB")
IR_ELEMENTS = Bound(1 << 19, "elements of the XML of an OpenVINO IR", "DenseNet-264 has 70,000")
IR_NESTED = Bound(64, "elements of the XML of an OpenVINO IR within each other", "a size of a port is in the sixth")
TABLES = Bound(1 << 20, "tables and numbers of a FlatBuffer", "DenseNet-264 has 30,000")
SNAPPY = Bound(64, "times the size that a Snappy block unpacks to", "a copy element of two bytes makes 64")
TABLE_KEYS = Bound(64, "times its size that the keys of a table's block have, written out", "they share what they can")
REPEATED = Bound(1 << 24, "elements of a TensorFlow constant of one value", "it costs the file nothing")

# -- descriptions of a network ---------------------------------------------------------------------------------

OPERATORS = Bound(20_000, "operators of a graph", "DenseNet-264 has 530 modules with weights")
OUTPUTS = Bound(64, "results of a graph that are looked at", "a network has one, with heads or features some")
JOINED = Bound(1024, "values that a concatenation joins", "DenseNet-264's longest block joins 65")
COMPUTED = Bound(1 << 16, "elements of a constant that is computed with", "the numbers of a normalisation are three")
FILLED = Bound(1 << 28, "elements of constants that cost the file nothing", "DenseNet-264 has 73 million")
COMPARED = Bound(1 << 16, "elements of a weight that is looked at whether all are equal", "a norm has a few thousand")
REGION = Bound(24, "operators of one activation", "mish, written out, has ten")
FUNCTION_NODES = Bound(
    50_000, "nodes of an ONNX graph, functions written out", "torch's exporter makes a function of a module"
)
NODES = Bound(100_000, "nodes of a TensorFlow graph", "of which 40,000 at most are followed")
CALLS = Bound(48, "functions of TensorFlow within each other", "layers within models, and what serves them")
HOPS = Bound(10_000, "operators passed over on the way to a value", "casts, reads and identities")
STEPS = Bound(40_000, "operators of a TensorFlow graph that are followed", "DenseNet-264 has 530 modules with weights")
LUA_NESTED = Bound(32, "modules of Lua Torch within each other", "containers within containers")
LUA_SEARCH = Bound(4, "tables around a network of Lua Torch", "a training checkpoint is one")
EXPORTED_INPUTS = Bound(
    1 << 14, "inputs of a program of torch.export, weights among them", "DenseNet-264 has 1,591 tensors"
)
MODULES = Bound(1 << 16, "modules of a pickled network", "DenseNet-264 has 530 with weights")
SCRIPT_WORK = Bound(400_000, "statements and expressions of TorchScript's code", "20,000 operators have fewer")
SCRIPT_CALLS = Bound(48, "calls of TorchScript within each other", "a forward calls its children's")
SCRIPT_LIST = Bound(
    1 << 14, "items of a list or text that TorchScript's code makes", "DenseNet-264's longest block joins 65"
)
KERAS_LAYERS = Bound(2000, "layers that a KerasHub backbone is said to have", "DenseNet-264's four blocks have 130")
KERAS_NUMBERS = Bound(1 << 12, "numbers of a constant in a Keras config", "a normalisation has three")
KERAS_WIDTH = Bound(1 << 20, "elements of a Keras layer that is computed with", "a normalisation has three")
SYMBOL_TEXT = Bound(256, "characters of a tuple in an MXNet symbol", "a kernel is (7, 7)")

# -- weights and names ------------------------------------------------------------------------------------------

WRAPPERS = Bound(6, "dicts, lists and records around weights", "a checkpoint, its state, its network")
HELD = Bound(1 << 20, "objects in memory that are looked through for weights", "a network has some thousands")
NESTED_NAMES = Bound(12, "dicts within each other that name one tensor", "blocks.0.layers.0.norm1.weight has six parts")
TENSORS = Bound(1 << 13, "tensors of a set of weights", "five times what DenseNet-264 has")
NAME_PARTS = Bound(32, "parts of a tensor's name, between dots", "blocks.0.layers.0.norm1.weight has six")
BLOCKS = Bound(8, "dense blocks that names are tried for", "published networks have three to five")
HEAD_LAYERS = Bound(64, "layers of a head", "published ones have fewer than ten")
HEAD_PARTS = Bound(32, "norms and linear layers that may be a head", "published ones have fewer than ten")
HEAD_MERGED = Bound(12, "norms and linear layers tried in every order that widths allow", "beyond that none is found")
HEAD_TRIED = Bound(5000, "steps in search of a head's order", "layers of one width could stand in millions of orders")
NUMBER = Bound(9, "digits of a module's number", "longer ones are no number")
ENTRIES = Bound(100_000, "plain values of a checkpoint that are looked at for classes", "what a training run is set to")
ENTRIES_NESTED = Bound(12, "dicts and records around a list of classes", "fastai's vocabulary is in the eleventh")
CLASSES = Bound(1 << 16, "names of classes", "ImageNet-21k has 21,841")

# -- folders, downloads, tables ------------------------------------------------------------------------------------

FILES = Bound(
    10_000,
    "files of a folder that is looked through for a checkpoint",
    "a training run's folder has some hundreds at most",
)
DOWNLOAD = Bound(1 << 32, "bytes of a download", "no checkpoint of a DenseNet comes near, its optimizer with it")
IMAGE = Bound(1 << 29, "bytes of an image in a shard", "a slide's region of 10,000 x 10,000 has 300 MB, raw")
RECORDS = Bound(1 << 24, "images of a shard", "one has ten thousand, and a gigabyte")
ROWS = Bound(1 << 16, "rows of a Parquet file, beyond one for 32 bytes", "an image has some hundred")
PARQUET_FOOTER = Bound(8 << 20, "bytes of a Parquet file's footer", "a column of a group of rows takes 200")
PAGE_INFLATED = Bound(8, "times its file's size that a page of Parquet has, unpacked", "images hardly shrink")
PAGE_HEADER = Bound(16 << 20, "bytes of a page's header", "pyarrow's own (parquet/properties.h)")
PAGES = Bound(1 << 16, "pages of a column, beyond one for a kilobyte", "one has a megabyte, or a group's rows")
LISTED = Bound(1 << 20, "classes of a Parquet file's images, beyond one for a byte", "an image has a few")
THRIFT_NESTED = Bound(16, "structs and lists of Thrift within each other", "a column's statistics are in the seventh")
UNPACKED = Bound(1 << 24, "bytes of a column that are unpacked at once, or one value", "images have a megabyte each")
LABEL = Bound(1 << 16, "bytes of an image's class in a shard", "a number, or a name")
TRUTHS = Bound(1 << 30, "bytes of a table of truths", "a line for an image")
PATH_PARTS = Bound(64, "folders of a path in a table of truths", "split, class, image")
