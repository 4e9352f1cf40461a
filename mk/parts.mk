# The parts of shoal, lowest first: each is the folder src/<part> and the library lib<part>.a.
#
# DEPS_<part> lists the parts that <part> may include and link directly; what those may use comes
# with them.  This is the only place where direction is written down: the link lines of the unit
# tests, the order of the libraries and the include check of `make lint` all follow it.
# A part whose folder has no sources yet is passed over.
#
# Each line below is read by scripts too: keep `NAME := words` on one line.

PARTS := base tensor kernels sample text net gguf device cpu ggmlrpc stage blob rpc cluster model engine host api cmd

DEPS_base :=
DEPS_tensor := base
DEPS_kernels := tensor
DEPS_sample := base
DEPS_text := base
DEPS_net := base
DEPS_gguf := tensor
DEPS_device := tensor
DEPS_cpu := device kernels
DEPS_ggmlrpc := device net
DEPS_stage := device sample
DEPS_blob := gguf
DEPS_rpc := stage net blob kernels
DEPS_cluster := tensor
DEPS_model := gguf tensor
DEPS_engine := model text sample stage cluster
DEPS_host := engine rpc ggmlrpc cpu
DEPS_api := engine
DEPS_cmd := host api

# pkg-config names of the libraries that a part uses beyond libc.
PKGS_text := libpcre2-8
PKGS_net := libssl libcrypto
PKGS_blob := libcrypto
PKGS_cmd := jansson

# Parts that take apart bytes from files and sockets: an implicit narrowing is an error there.
STRICT_PARTS := base tensor net gguf ggmlrpc blob rpc

# pkg-config names for the programs under tests/, which may use every part but cmd.
PKGS_tests := jansson

# Unit tests of these parts, and the programs in these folders of tests/, also run under TSan.
TSAN_PARTS := base net blob device cpu ggmlrpc stage rpc engine host
TSAN_DIRS := threads host rpc

# Unit tests of these parts, and the programs in these folders of tests/, are also built by the
# arm64 cross compiler and run under qemu.
PORTABLE_PARTS := base tensor kernels sample net gguf device cpu ggmlrpc stage model engine
PORTABLE_DIRS := kernels
