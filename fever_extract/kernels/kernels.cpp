// MTCNN's three networks and the resampling of their images, each call on one thread of a CPU.
//
// A plain C interface, called by way of ctypes, and so without Python's interpreter lock:
// fever_extract/detection/compiled.py says what goes in and out. The functions are those of
// fever_extract/detection/mtcnn.py and pyramid.py, to rounding.

#if !defined(__x86_64__) || !defined(__GNUC__)
#error "written for x86-64 and GCC or Clang; elsewhere the package runs on torch alone"
#endif

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

namespace {

constexpr int LANES = 16;    // channels are padded to a multiple of this, with zeros
constexpr int SLACK = 4096;  // floats past a row's end that its last tile may read or write
constexpr int MANY = 1024;   // stands for a row's width where that depends on the picture

constexpr int padded(int channels) { return (channels + LANES - 1) / LANES * LANES; }

// As in Caffe, a last window that reaches over the border counts.
constexpr int pooled_side(int side, int size) { return (side - size + 1) / 2 + 1; }

// Input and output channels, side of the kernel, and side of the pooling window after it.
template <int INPUTS, int OUTPUTS, int KERNEL, int WINDOW = 0>
struct Layer {
    static constexpr int IN = INPUTS, OUT = OUTPUTS, SIDE = KERNEL, POOL = WINDOW;
};
typedef Layer<3, 10, 3, 2> PNet1;
typedef Layer<10, 16, 3> PNet2;
typedef Layer<16, 32, 3> PNet3;
typedef Layer<32, 6, 1> PNetHeads;
typedef Layer<3, 28, 3, 3> RNet1;
typedef Layer<28, 48, 3, 3> RNet2;
typedef Layer<48, 64, 2> RNet3;
typedef Layer<576, 128, 1> RNet4;
typedef Layer<128, 6, 1> RNetHeads;
typedef Layer<3, 32, 3, 3> ONet1;
typedef Layer<32, 64, 3, 3> ONet2;
typedef Layer<64, 64, 3, 2> ONet3;
typedef Layer<64, 128, 2> ONet4;
typedef Layer<1152, 256, 1> ONet5;
typedef Layer<256, 16, 1> ONetHeads;

// Take a buffer, and slack after it, from the scratch memory.
INLINE float *take(float *&scratch, int floats) {
    float *taken = scratch;
    scratch += floats + SLACK;
    return taken;
}

// MobileNetV1, by its blocks: a depthwise and a pointwise convolution each.
constexpr int FIRST = 32;                // channels of the convolution before the blocks
constexpr int FEW_PIXELS = 64;           // in a frame that is small beside its weights
constexpr int LARGEST_PANEL = 64 * 1024;  // outputs of a tile, and inputs at most
struct Block {
    int outputs, stride, half;  // the last: whether the pointwise weights are in half precision
};
struct Tap {
    int block, grid;
};
struct Mobilenet {
    int size, channels, number, taps, features, late;
    const Block *blocks;
    const Tap *tapped;
    const float *const *parameters;
};
// Memory for frames: a and b for one crop, c and d for all.
struct Frames {
    float *a, *b, *c, *d, *panel;
};

}  // namespace

// The compiler makes each copy of the kernels for its own instructions; no other function may be
// shared between them, or an old processor could be given a new one's.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define WIDTH 8
#define REGISTERS 16
namespace avx2 {
namespace {
#include "mtcnn.inc"
#include "mobilenet.inc"
}
}  // namespace avx2
#undef WIDTH
#undef REGISTERS
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma,f16c"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,fma,f16c")
#endif
#define WIDTH 16
#define REGISTERS 32
namespace avx512 {
namespace {
#include "mtcnn.inc"
#include "mobilenet.inc"
}
}  // namespace avx512
#undef WIDTH
#undef REGISTERS
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// The best instructions of this processor: 2 for AVX-512, 1 for AVX2, 0 for less. Whoever has AVX2
// has F16C.
EXPORT int fever_instructions() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    const bool more = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    return more ? 2 : 1;
}

// Each takes 1 or 2 as `instructions`, and returns -1 where there is no memory.

EXPORT int fever_pnet(int instructions, const unsigned char *const *images, const int *sides,
                      int number, const float *const *parameters, float threshold,
                      int *places, float *outputs) {
    int widest = 0, count = 0;
    for (int i = 0; i < number; i++)
        if (sides[2 * i + 1] > widest) widest = sides[2 * i + 1];
    float *scratch = (float *)calloc((size_t)200 * widest + 17 * SLACK, sizeof(float));
    if (!scratch) return -1;
    auto run = instructions == 2 ? avx512::pnet : avx2::pnet;
    for (int i = 0; i < number; i++) {
        const int before = count;
        count += run(images[i], sides[2 * i], sides[2 * i + 1], parameters, threshold, scratch,
                     places + 3 * count, outputs + 6 * count);
        for (int n = before; n < count; n++) places[3 * n] = i;
    }
    free(scratch);
    return count;
}

EXPORT int fever_rnet(int instructions, const float *crops, int count,
                      const float *const *parameters, float *out) {
    float *scratch = (float *)calloc((size_t)704 * count + 7000 + 9 * SLACK, sizeof(float));
    if (!scratch) return -1;
    (instructions == 2 ? avx512::rnet : avx2::rnet)(crops, count, parameters, scratch, out);
    free(scratch);
    return count;
}

EXPORT int fever_onet(int instructions, const float *crops, int count,
                      const float *const *parameters, float *out) {
    float *scratch = (float *)calloc((size_t)1408 * count + 29000 + 10 * SLACK, sizeof(float));
    if (!scratch) return -1;
    (instructions == 2 ? avx512::onet : avx2::onet)(crops, count, parameters, scratch, out);
    free(scratch);
    return count;
}

EXPORT void fever_sample(int instructions, const unsigned char *const *images, const int *sides,
                         const int *places, const float *edges, int count, int size,
                         float *crops) {
    auto run = instructions == 2 ? avx512::sample : avx2::sample;
    for (int i = 0; i < count; i++) {
        const int *side = sides + 2 * places[i];
        run(images[places[i]], side[0], side[1], edges + 4 * i, size, crops + i * 3L * size * size);
    }
}

// Run MobileNet on crops (count, size, size, channels): out (count, features). `blocks` are three
// numbers each, `tapped` two.
EXPORT int fever_mobilenet(int instructions, const float *crops, int count, int size,
                           int channels, const int *blocks, int number, const int *tapped,
                           int taps, const float *const *parameters, int features, float *out) {
    Mobilenet network = {size, channels, number, taps, features, 0, (const Block *)blocks,
                         (const Tap *)tapped, parameters};
    // The largest frames of the blocks that take a crop at a time, and of the others.
    size_t side = size / 2, wide = FIRST, large = side * side * FIRST, small = large;
    for (int k = 0; k < number; k++) {
        const Block &block = network.blocks[k];
        side /= block.stride;
        const size_t frame = side * side * block.outputs, between = side * side * wide;
        const bool late = side * side <= FEW_PIXELS;
        if (!late) network.late = k + 1, small = frame;
        size_t &most = late ? small : large;
        if (frame > most) most = frame;
        if (between > most) most = between;
        wide = block.outputs;
    }
    small *= count;
    float *memory = (float *)malloc((2 * large + 2 * small + LARGEST_PANEL) * sizeof(float));
    if (!memory) return -1;
    float *both = memory + 2 * large;
    const Frames frames = {memory, memory + large, both, both + small, both + 2 * small};
    (instructions == 2 ? avx512::mobilenet : avx2::mobilenet)(network, crops, count, frames, out);
    free(memory);
    return count;
}

// Multiply (count, inputs) by a matrix, and scale and shift its columns: out (count, outputs).
EXPORT void fever_dense(int instructions, const float *in, int count, int inputs, int half,
                        const float *parameters, int outputs, float *out) {
    auto run = instructions == 2 ? avx512::product : avx2::product;
    run(half, in, count, inputs, parameters, -INFINITY, INFINITY, out, outputs, nullptr);
}

#include "resize.inc"
#include "pixels.inc"
#include "warp.inc"
