// Products of stacked matrices on the CPU: for each model m, a[m] (rows, depth) times b[m] (depth, columns), which may lie
// anyhow, in fp32 or, where the processor multiplies it, bf16. Runs of b are put into panels, as many columns as registers
// hold sums of, so that a panel stays in a core's first cache while rows of a pass by (Goto & van de Geijn,
// doi 10.1145/1356052.1356053). What lies as it is read is not copied. Sums are kept in fp32.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "vectors.h"

namespace {

constexpr int VECTORS = 3;      // of a panel's row, at most
constexpr int64_t ROWS = 256;   // of a that pass by all panels while they are in the second cache
constexpr int64_t PANELS = 11;  // that are in it with them
constexpr int64_t FAR = 512;    // bytes from one column of a to the next

// a matrix: number (i, j) stands at first[i * down + j * right]
template <class X>
struct Matrix {
    const X *first;
    int64_t down, right;
    Matrix from(int64_t i, int64_t j) const { return {first + i * down + j * right, down, right}; }
};

template <class W = V>
inline W read(const void *p) {
    W x;
    std::memcpy(&x, p, sizeof x);
    return x;
}
inline void write(void *p, const V &x) { std::memcpy(p, &x, sizeof x); }

// What is told apart by the type of numbers: a unit of PER numbers, one below the other in b, enters a sum at once.
struct Single {
    typedef float X;
    static constexpr int PER = 1;
    static constexpr int64_t DEPTH = 128;  // products of a sum that stands alone, as errors grow with their number
    static V plus(const V &sum, const X *one, const V &row) { return sum + *one * row; }
    // the first `have` numbers of a vector, others 0
    static V read_some(const X *p, int64_t have) {
#ifdef __AVX512F__
        return (V)_mm512_maskz_loadu_ps(__mmask16((1u << have) - 1), p);
#else
        V x = {};
        for (int i = 0; i < have; i++) x[i] = p[i];
        return x;
#endif
    }
    static void write_some(X *p, const V &x, int64_t have) {
#ifdef __AVX512F__
        _mm512_mask_storeu_ps(p, __mmask16((1u << have) - 1), (__m512)x);
#else
        for (int i = 0; i < have; i++) p[i] = x[i];
#endif
    }
    // a vector of units from rows that stand `down` apart, of which `deep` are there
    static V units(const X *p, int64_t down, int64_t deep, int64_t have) { return have < L ? read_some(p, have) : read(p); }
    static void put(const X *p, int64_t right, int64_t deep, X *to) { std::memcpy(to, p, R * sizeof(X)); }
};

#ifdef __AVX512BF16__
struct Half {
    typedef uint16_t X;
    static constexpr int PER = 2;
    static constexpr int64_t DEPTH = 512;
    static V plus(const V &sum, const X *two, const V &row) {
        return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(read<int32_t>(two)), (__m512bh)row);
    }
    static void write_some(X *p, const V &x, int64_t have) {
        _mm256_mask_storeu_epi16(p, __mmask16((1u << have) - 1), (__m256i)_mm512_cvtneps_pbh((__m512)x));
    }
    static V units(const X *p, int64_t down, int64_t deep, int64_t have) {
        const __mmask16 seen = (1u << have) - 1;
        const __m512i one = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(seen, p));
        if (deep < 2) return (V)one;
        const __m512i two = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(seen, p + down));
        return (V)_mm512_or_si512(one, _mm512_slli_epi32(two, 16));
    }
    // R rows' unit, as they stand side by side
    static void put(const X *p, int64_t right, int64_t deep, X *to) {
        const __m128i one = read<__m128i>(p), two = deep < 2 ? _mm_setzero_si128() : read<__m128i>(p + right);
        _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi16(one, two));
        _mm_storeu_si128((__m128i *)to + 1, _mm_unpackhi_epi16(one, two));
    }
};
#endif

// Where a tile goes: sums of a part of the depth to `sums`, those of the whole to `to`.
template <class X>
struct Place {
    float *sums;
    X *to;
    int64_t stride, have;  // from row to row of both; numbers of the last vector
    bool more, last;       // whether there are sums already, and whether they are whole now
};

// HIGH rows of a times a panel of WIDE vectors, whose rows stand `step` apart
template <class N, int HIGH, int WIDE>
void tile(const Matrix<typename N::X> &a, const typename N::X *panel, int64_t step, int64_t units,
          const Place<typename N::X> &place) {
    V sum[HIGH][WIDE] = {};
    const typename N::X *x = a.first;
    for (int64_t k = 0; k < units; k++, x += a.right, panel += step) {
        V row[WIDE];
        for (int v = 0; v < WIDE; v++) row[v] = read(panel + v * L * N::PER);
        for (int r = 0; r < HIGH; r++)
            for (int v = 0; v < WIDE; v++) sum[r][v] = N::plus(sum[r][v], x + r * a.down, row[v]);
    }
    // no loop may be left of these, or sums would stand in memory, above, too
#pragma GCC unroll 8
    for (int r = 0; r < HIGH; r++)
#pragma GCC unroll 3
        for (int v = 0; v < WIDE; v++) {
            const int64_t at = r * place.stride + v * L, have = v < WIDE - 1 ? L : place.have;
            V found = sum[r][v];
            if (place.more) found += have < L ? Single::read_some(place.sums + at, have) : read(place.sums + at);
            if (place.last)
                N::write_some(place.to + at, found, have);
            else
                Single::write_some(place.sums + at, found, have);
        }
}

template <class N>
using Tile = void(const Matrix<typename N::X> &, const typename N::X *, int64_t, int64_t, const Place<typename N::X> &);

template <class N, int WIDE, int... n>
Tile<N> *of_height(int64_t high, std::integer_sequence<int, n...>) {
    static constexpr Tile<N> *ALL[] = {tile<N, n + 1, WIDE>...};
    return ALL[high - 1];
}

template <class N>
Tile<N> *tile_of(int64_t high, int64_t wide) {
    constexpr std::make_integer_sequence<int, R> heights{};
    if (wide == 1) return of_height<N, 1>(high, heights);
    return wide == 2 ? of_height<N, 2>(high, heights) : of_height<N, 3>(high, heights);
}

// of pairs of N numbers, the second ones of x change places with the first ones of y
template <int N, int... i>
inline void exchange(V &x, V &y, std::integer_sequence<int, i...>) {
#ifdef __clang__
    const V low = __builtin_shufflevector(x, y, (i & N ? i - N + L : i)...);
    const V high = __builtin_shufflevector(x, y, (i & N ? i + L : i + N)...);
#else
    const V low = __builtin_shuffle(x, y, I{(i & N ? i - N + L : i)...});
    const V high = __builtin_shuffle(x, y, I{(i & N ? i + L : i + N)...});
#endif
    x = low, y = high;
}

// L vectors, columns for rows
template <int N = L / 2>
inline void turn(V *x) {
    for (int i = 0; i < L; i++)
        if (!(i & N)) exchange<N>(x[i], x[i + N], std::make_integer_sequence<int, L>());
    if constexpr (N > 1) turn<N / 2>(x);
}

// part of b, (depth, columns), to rows of `width` units, whole vectors; what is not there is 0
template <class N>
void put_panel(const Matrix<typename N::X> &b, int64_t depth, int64_t columns, int64_t width, typename N::X *to) {
    constexpr int P = N::PER;
    const int64_t units = (depth + P - 1) / P;
    for (int64_t n = 0; n < width; n += L) {
        int64_t k = 0;
        if (b.right == 1) {
            for (; k < units; k++)
                write(to + (k * width + n) * P,
                      N::units(b.from(k * P, n).first, b.down, depth - k * P, std::min<int64_t>(L, columns - n)));
        } else if (b.down == 1) {
            for (int64_t whole; (whole = std::min<int64_t>(L, depth / P - k)) > 0; k += whole) {
                V x[L];
                for (int i = 0; i < L; i++)
                    x[i] = n + i < columns ? Single::read_some((const float *)b.from(k * P, n + i).first, whole) : V{};
                turn(x);
                for (int i = 0; i < whole; i++) write(to + ((k + i) * width + n) * P, x[i]);
            }
        }
        for (k *= P; k < units * P; k++)
            for (int64_t i = n; i < n + L; i++)
                to[(k / P * width + i) * P + k % P] = k < depth && i < columns ? *b.from(k, i).first : 0;
    }
}

// part of a, (rows, depth), to tiles of R rows, one behind the other, whose units stand one behind the other
template <class N>
void put_tiles(const Matrix<typename N::X> &a, int64_t rows, int64_t depth, typename N::X *to) {
    constexpr int P = N::PER;
    const int64_t units = (depth + P - 1) / P;
    for (int64_t r = 0; r < rows; r += R, to += units * R * P) {
        const int64_t high = std::min<int64_t>(R, rows - r);
        if (high == R && a.down == 1) {
            for (int64_t k = 0; k < units; k++) N::put(a.from(r, k * P).first, a.right, depth - k * P, to + k * R * P);
            continue;
        }
        for (int64_t i = 0; i < high; i++) {
            int64_t k = 0;
            if (a.right == 1)
                for (; k < depth / P; k++) std::memcpy(to + (k * R + i) * P, a.from(r + i, k * P).first, P * sizeof *to);
            for (k *= P; k < units * P; k++)
                to[(k / P * R + i) * P + k % P] = k < depth ? *a.from(r + i, k).first : 0;
        }
    }
}

// memory that a thread keeps from call to call
class Room {
    char *begin = nullptr;
    int64_t held = 0;

public:
    ~Room() { std::free(begin); }
    char *of(int64_t bytes) {
        if (bytes > held) {
            std::free(begin);
            begin = static_cast<char *>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
            held = begin ? bytes : 0;
        }
        return begin;
    }
};

// a's rows from `begin` to `end` times b; returns whether there was room
template <class N>
bool product(const Matrix<typename N::X> &a, const Matrix<typename N::X> &b, int64_t begin, int64_t end, int64_t depth,
             int64_t columns, typename N::X *to) {
    typedef typename N::X X;
    constexpr int P = N::PER;
    const int64_t vectors = (columns + L - 1) / L, panels = (vectors + VECTORS - 1) / VECTORS;
    const auto column = [&](int64_t p) { return vectors * p / panels * L; };  // where a panel begins: all as wide, or nearly
    const bool lies = P == 1 && b.right == 1 && panels == 1 && columns % L == 0;
    // numbers that are far apart share few places of the first cache: they are put together once, not fetched for each panel
    const bool tiled = P == 1 ? a.right * int64_t(sizeof(X)) >= FAR && panels > 1 : a.right != 1 || depth % P;
    const int64_t group_width = std::min(panels, PANELS) * VECTORS * L;
    const bool apart = P > 1 && depth > N::DEPTH;  // sums do not fit where results are
    static thread_local Room room;
    char *const held = room.of(N::DEPTH * (group_width + ROWS) * sizeof(X) + (apart ? (end - begin) * columns * 4 : 0));
    if (!held) return false;
    X *const put = reinterpret_cast<X *>(held), *const tiles = put + N::DEPTH * group_width;
    float *const sums = apart ? reinterpret_cast<float *>(tiles + N::DEPTH * ROWS) - begin * columns : (float *)to;
    for (int64_t group = 0; group < panels; group += PANELS) {
        const int64_t stop = std::min(group + PANELS, panels);
        for (int64_t k = 0; k < depth; k += N::DEPTH) {
            const int64_t deep = std::min(N::DEPTH, depth - k), units = (deep + P - 1) / P;
            for (int64_t p = group; p < stop && !lies; p++)
                put_panel<N>(b.from(k, column(p)), deep, std::min(column(p + 1), columns) - column(p),
                             column(p + 1) - column(p), put + (column(p) - column(group)) * units * P);
            for (int64_t block = begin; block < end; block += ROWS) {
                const int64_t last = std::min(block + ROWS, end);
                if (tiled) put_tiles<N>(a.from(block, k), last - block, deep, tiles);
                for (int64_t p = group; p < stop; p++) {
                    const int64_t width = column(p + 1) - column(p), have = std::min<int64_t>(0, columns - column(p + 1)) + L;
                    const X *panel = lies ? b.from(k, 0).first : put + (column(p) - column(group)) * units * P;
                    for (int64_t r = block; r < last; r += R) {
                        const int64_t high = std::min<int64_t>(R, last - r), at = r * columns + column(p);
                        const Matrix<X> part = tiled ? Matrix<X>{tiles + (r - block) * units * P, P, R * P}
                                                     : Matrix<X>{a.from(r, k).first, a.down, a.right * P};
                        tile_of<N>(high, width / L)(part, panel, lies ? b.down : width * P, units,
                                                    {sums + at, to + at, columns, have, k > 0, k + deep == depth});
                    }
                }
            }
        }
    }
    return true;
}

template <class N>
int products(const void *a, const int64_t *a_step, const void *b, const int64_t *b_step, void *to, int64_t models,
             int64_t rows, int64_t depth, int64_t columns, int64_t threads) {
    typedef typename N::X X;
    const int64_t tiles = (rows + R - 1) / R, count = models * tiles;
    bool done = true;
    in_parts(count, threads, [&](int64_t from, int64_t end) {
        while (from < end) {
            const int64_t m = from / tiles, first = from % tiles, last = std::min(tiles, first + end - from);
            if (!product<N>({(const X *)a + m * a_step[0], a_step[1], a_step[2]},
                            {(const X *)b + m * b_step[0], b_step[1], b_step[2]}, first * R, std::min(last * R, rows), depth,
                            columns, (X *)to + m * rows * columns))
                done = false;
            from += last - first;
        }
    });
    return done;
}

}  // namespace

// whether bf16 is there, too
extern "C" int qkvlab_multiplies_half() {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

// to (models, rows, columns), side by side; strides of a and b are of (model, row, column). Returns whether there was room.
extern "C" int qkvlab_products(const void *a, const int64_t *a_step, const void *b, const int64_t *b_step, void *to,
                               int64_t models, int64_t rows, int64_t depth, int64_t columns, int64_t threads, int64_t half) {
#ifdef __AVX512BF16__
    if (half) return products<Half>(a, a_step, b, b_step, to, models, rows, depth, columns, threads);
#endif
    return products<Single>(a, a_step, b, b_step, to, models, rows, depth, columns, threads);
}

// The same for programs of PyTorch's compiler, which call it as a kernel of their own. Of PyTorch it needs these functions,
// in C; their addresses are given once, since they are not found by name where PyTorch is loaded from Python.
typedef struct AtenTensorOpaque *Tensor;
static struct {
    int32_t (*data_ptr)(Tensor, void **);
    int32_t (*sizes)(Tensor, int64_t **);
    int32_t (*strides)(Tensor, int64_t **);
    int32_t (*dtype)(Tensor, int32_t *);
    int32_t (*empty)(int64_t, const int64_t *, const int64_t *, int32_t dtype, int32_t device, int32_t index, Tensor *);
    int32_t (*half)();
} of_torch;

extern "C" void qkvlab_connect(void *const *functions) { std::memcpy(&of_torch, functions, sizeof of_torch); }

extern "C" int32_t aoti_torch_cpu_product(Tensor a, Tensor b, Tensor *made) {
    void *from[2], *to;
    int64_t *size[2], *step[2];
    int32_t dtype;
    const Tensor given[] = {a, b};
    if (!of_torch.sizes) return 1;  // nobody connected it
    for (int i = 0; i < 2; i++)
        if (of_torch.data_ptr(given[i], from + i) || of_torch.sizes(given[i], size + i) ||
            of_torch.strides(given[i], step + i))
            return 1;
    const int64_t models = size[0][0], rows = size[0][1], depth = size[0][2], columns = size[1][2];
    const int64_t sizes[] = {models, rows, columns}, steps[] = {rows * columns, columns, 1};
    if (of_torch.dtype(a, &dtype) || of_torch.empty(3, sizes, steps, dtype, 0, 0, made) || of_torch.data_ptr(*made, &to))
        return 1;
    int64_t threads = 1;
#ifdef _OPENMP
    threads = omp_get_max_threads();  // which is what torch.set_num_threads says
#endif
    return !qkvlab_products(from[0], step[0], from[1], step[1], to, models, rows, depth, columns, threads,
                            dtype == of_torch.half());
}
