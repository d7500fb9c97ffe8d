"""Bounds: what a file may ask for, in one table.  A reader that counts, nests or allocates takes its limit from here.

What bounds time and memory is a file's own size where that can be (``COPIES``, ``INFLATED``).  The others are well
above what any DenseNet has.  A file that exceeds one is refused in one line; what is only looked for is not found.
"""

from densenet.bounds import PIXELS, WIDTH, Bound

__all__ = ["PIXELS", "WIDTH", "Bound"]

# -- every format ------------------------------------------------------------------------------

DIMENSIONS = Bound(32, "dimensions of an array", "numpy's own, before its version 2")
NAME = Bound(4096, "characters of a name", "paths of modules have some 60, those of calls of functions some 500")
JSON = Bound(12 << 20, "bytes of a JSON text", "a program of torch.export has 5 MB, the largest known")
CONTAINERS = Bound(1 << 20, "lists and objects of a JSON text", "a program of torch.export has 100,000")
CONFIG = Bound(1 << 20, "bytes of a text beside a checkpoint", "a config.json with 20,000 classes has 600 kB")
INDEX = Bound(16 << 20, "bytes of an index of shards", "the largest known has 300 kB")

ARRAYS = Bound(1 << 15, "arrays of a file", "a checkpoint of DenseNet-264 with its optimizer has 5,000")
FIELDS = Bound(300_000, "fields of a message of Protocol Buffers", "DenseNet-264 has 40,000 in all, as ONNX")
NUMBERS = Bound(1 << 16, "numbers of a list in a message, weights apart", "a shape has four")

# -- archives and compression ----------------------------------------------------------------------

ARCHIVES = Bound(3, "archives within each other", "a checkpoint in a tar in a gzip is two")
MEMBERS = Bound(10_000, "members of a tar", "folders of whole projects have some hundreds")
TAR_HEADER = Bound(1 << 16, "bytes of a header that says the next member's name or size", "a path has 4096 at most")
INFLATED = Bound(1100, "times the size that something compressed unpacks to", "deflate does 1032 at best")
LARGE = Bound(1 << 26, "bytes from which a member is large", "models of that size are read without a question")
LARGE_INFLATED = Bound(32, "times its file's size that something large has, unpacked", "weights hardly shrink")
DIRECTORY = Bound(4 << 20, "bytes of a zip's directory", "a checkpoint with its optimizer has 300 kB")
MANIFEST = Bound(1 << 20, "bytes of TorchServe's manifest", "it has 500")

# -- pickles and PyTorch ---------------------------------------------------------------------------------

OPCODES = Bound(1 << 18, "opcodes of a pickle, beyond one for two bytes", "each costs half a microsecond")
OBJECTS = Bound(1 << 16, "objects of a pickle, beyond one for four bytes", "each costs some 64 bytes")
MEMO = Bound(1 << 16, "objects a pickle remembers, beyond one for six bytes", "each costs some 100 bytes")
COPIES = Bound(4, "times a pickle's size that its builders copy", "a state dict is copied once")
PICKLES = Bound(3, "pickles within each other", "skorch saves two")
EXPANDED = Bound(1 << 16, "elements of a tensor beyond its storage's", "expand gives strides of 0: any norm's")
CODE = Bound(1 << 20, "bytes of a file of TorchScript's code", "a DenseNet-264 has 300 kB")
GRAPH_CODE = Bound(1 << 22, "characters of a GraphModule's code", "a DenseNet-264 has 200 kB")
METADATA = Bound(1 << 28, "bytes of torch.distributed's .metadata", "a tensor takes some 500")
CHUNKS = Bound(1 << 10, "chunks of a tensor of torch.distributed", "one a machine")

# -- other formats ------------------------------------------------------------------------------------------

SAFETENSORS_HEADER = Bound(100_000_000, "bytes of a safetensors header", "the format's own (its src/tensor.rs)")
NPY_HEADER = Bound(1 << 16, "bytes of an .npy header", "numpy's own for the versions it writes")
T7_VALUES = Bound(1 << 19, "values of a Lua Torch file, elements of tensors apart", "DenseNet-201 has 60,000")
T7_NESTED = Bound(128, "objects of Lua Torch within each other", "the deepest network of the official code has 30")
PROTOTXT = Bound(1 << 20, "bytes of a prototxt", "DenseNet-201 has 200 kB")
PROTOTXT_NESTED = Bound(32, "messages of a prototxt within each other", "a network has 4")
PROTOTXTS = Bound(8, "other .prototxt files looked at beside a .caffemodel", "training and deployment are two")
PADDLE_DESC = Bound(256, "bytes that describe a parameter of Paddle", "they have 20")
SNAPPY = Bound(64, "times the size that a Snappy block unpacks to", "a copy element of two bytes makes 64")
TABLE_KEYS = Bound(64, "times its size that the keys of a table's block have, written out", "they share what they can")
REPEATED = Bound(1 << 24, "elements of a TensorFlow constant of one value", "it costs the file nothing")

# -- descriptions of a network ---------------------------------------------------------------------------------

OPERATORS = Bound(20_000, "operators of a graph", "DenseNet-264 has 1,500, taken apart 10,000")
OUTPUTS = Bound(64, "results of a graph that are looked at", "heads are some ten")
JOINED = Bound(1024, "values that a concatenation joins", "the longest block has 65")
COMPUTED = Bound(1 << 16, "elements of a constant that is computed with", "the numbers of a normalisation are three")
FILLED = Bound(1 << 28, "elements of constants that cost the file nothing", "five times the largest network's")
COMPARED = Bound(1 << 16, "elements of a weight that is looked at whether all are equal", "the widest norm has 5,000")
REGION = Bound(24, "operators of one activation", "mish, written out, has ten")
FUNCTION_NODES = Bound(50_000, "nodes of an ONNX graph, functions written out", "torch's exporter makes 10,000")
CALLS = Bound(48, "functions of TensorFlow within each other", "a SavedModel of Keras has 4")
HOPS = Bound(10_000, "operators passed over on the way to a value", "they are some ten")
STEPS = Bound(40_000, "operators of a TensorFlow graph that are followed", "DenseNet-264 has 4,000")
LUA_NESTED = Bound(32, "modules of Lua Torch within each other", "the official code has 10")
LUA_SEARCH = Bound(4, "tables around a network of Lua Torch", "a training checkpoint has one")
EXPORTED_INPUTS = Bound(1 << 14, "inputs of a program of torch.export, weights among them", "DenseNet-264 has 1,600")
MODULES = Bound(1 << 16, "modules of a pickled network", "DenseNet-264 has 1,100")
SCRIPT_WORK = Bound(400_000, "statements and expressions of TorchScript's code", "20,000 operators have fewer")
SCRIPT_CALLS = Bound(48, "calls of TorchScript within each other", "a network has 6")
SCRIPT_LIST = Bound(1 << 14, "items of a list or text that TorchScript's code makes", "a block joins 65")
KERAS_LAYERS = Bound(2000, "layers that a KerasHub backbone is said to have", "DenseNet-264 has 130")
KERAS_NUMBERS = Bound(1 << 12, "numbers of a constant in a Keras config", "a normalisation has three")
KERAS_WIDTH = Bound(1 << 20, "elements of a Keras layer that is computed with", "a normalisation has three")
SYMBOL_TEXT = Bound(256, "characters of a tuple in an MXNet symbol", "a kernel is (7, 7)")

# -- weights and names ------------------------------------------------------------------------------------------

WRAPPERS = Bound(6, "dicts, lists and records around weights", "training checkpoints have three")
NESTED_NAMES = Bound(12, "dicts within each other that name one tensor", "a path of modules has seven parts")
TENSORS = Bound(1 << 13, "tensors of a set of weights", "five times what DenseNet-264 has")
NAME_PARTS = Bound(32, "parts of a tensor's name, between dots", "a path of modules has ten")
BLOCKS = Bound(8, "dense blocks that names are tried for", "the largest networks have five")
HEAD_LAYERS = Bound(64, "layers of a head", "the longest known has eight")
HEAD_PARTS = Bound(32, "norms and linear layers that may be a head", "the longest known has eight")
HEAD_MERGED = Bound(12, "norms and linear layers tried in every order that widths allow", "beyond that none is found")
HEAD_TRIED = Bound(5000, "steps in search of a head's order", "layers of one width could stand in millions of orders")
NUMBER = Bound(9, "digits of a module's number", "longer ones are no number")
ENTRIES = Bound(100_000, "plain values of a checkpoint that are looked at for classes", "fastai's have some thousands")
ENTRIES_NESTED = Bound(12, "dicts and records around a list of classes", "fastai's vocabulary is in the eleventh")
CLASSES = Bound(1 << 16, "names of classes", "no list is longer")

# -- folders, downloads, tables ------------------------------------------------------------------------------------

FILES = Bound(10_000, "files of a folder that is looked through for a checkpoint", "training runs have hundreds")
DOWNLOAD = Bound(1 << 32, "bytes of a download", "the largest checkpoint of a DenseNet has 500 MB")
TRUTHS = Bound(1 << 30, "bytes of a table of truths", "ImageNet's has 2 MB")
PATH_PARTS = Bound(64, "folders of a path in a table of truths", "they have five")
