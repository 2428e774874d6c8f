// Products of stacked matrices in fp32 on the CPU: for each model m, a[m] (rows, depth) times b[m] (depth, columns), which
// may lie anyhow. Runs of DEPTH of b are put into panels, as many columns as registers hold sums of, so that a panel stays
// in a core's first cache while rows of a pass by (Goto & van de Geijn, doi 10.1145/1356052.1356053). A panel that lies
// as it is read is not copied.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

// numbers of a vector, and rows of a that share what is read of b: as many sums as registers
#ifdef __AVX512F__
constexpr int L = 16, R = 8;
#else
constexpr int L = 8, R = 4;
#endif
constexpr int VECTORS = 3;      // of a panel's row, at most
constexpr int64_t DEPTH = 128;  // products of a sum that stands alone, as errors grow with their number
constexpr int64_t ROWS = 256;   // of a that pass by all panels while they are in the second cache
constexpr int64_t PANELS = 16;  // that are in it with them
constexpr int64_t FAR = 128;    // numbers from one column of a to the next

typedef float V __attribute__((vector_size(4 * L)));
typedef int32_t I __attribute__((vector_size(4 * L)));

// a matrix: number (i, j) stands at first[i * down + j * right]
struct Matrix {
    const float *first;
    int64_t down, right;
    Matrix from(int64_t i, int64_t j) const { return {first + i * down + j * right, down, right}; }
};

inline V read(const float *p) {
    V x;
    std::memcpy(&x, p, sizeof x);
    return x;
}
inline void write(float *p, const V &x) { std::memcpy(p, &x, sizeof x); }

// the first `have` numbers of a vector, others 0
inline V read_some(const float *p, int64_t have) {
#ifdef __AVX512F__
    return (V)_mm512_maskz_loadu_ps(__mmask16((1u << have) - 1), p);
#else
    V x = {};
    for (int i = 0; i < have; i++) x[i] = p[i];
    return x;
#endif
}
inline void write_some(float *p, const V &x, int64_t have) {
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(p, __mmask16((1u << have) - 1), (__m512)x);
#else
    for (int i = 0; i < have; i++) p[i] = x[i];
#endif
}

// HIGH rows of a times a panel of WIDE vectors, whose rows stand `step` apart: to the result or, if MORE, added to it; of
// its last vector `have` numbers are there
template <int HIGH, int WIDE, bool MORE>
void tile(const Matrix &a, const float *panel, int64_t step, int64_t depth, float *to, int64_t stride, int64_t have) {
    V sum[HIGH][WIDE] = {};
    const float *x = a.first;
    for (int64_t k = 0; k < depth; k++, x += a.right, panel += step) {
        V row[WIDE];
        for (int v = 0; v < WIDE; v++) row[v] = read(panel + v * L);
        for (int r = 0; r < HIGH; r++)
            for (int v = 0; v < WIDE; v++) sum[r][v] += x[r * a.down] * row[v];
    }
    // no loop may be left of these, or sums would stand in memory, above, too
#pragma GCC unroll 8
    for (int r = 0; r < HIGH; r++)
#pragma GCC unroll 3
        for (int v = 0; v < WIDE; v++) {
            float *y = to + r * stride + v * L;
            const bool whole = v < WIDE - 1 || have == L;
            V found = sum[r][v];
            if (MORE) found += whole ? read(y) : read_some(y, have);
            if (whole)
                write(y, found);
            else
                write_some(y, found, have);
        }
}

typedef void Tile(const Matrix &, const float *, int64_t, int64_t, float *, int64_t, int64_t);

template <int WIDE, bool MORE, int... n>
Tile *of_height(int64_t high, std::integer_sequence<int, n...>) {
    static constexpr Tile *ALL[] = {tile<n + 1, WIDE, MORE>...};
    return ALL[high - 1];
}

Tile *tile_of(int64_t high, int64_t wide, bool more) {
    constexpr std::make_integer_sequence<int, R> heights{};
    if (wide == 1) return more ? of_height<1, true>(high, heights) : of_height<1, false>(high, heights);
    if (wide == 2) return more ? of_height<2, true>(high, heights) : of_height<2, false>(high, heights);
    return more ? of_height<3, true>(high, heights) : of_height<3, false>(high, heights);
}

template <int N, int... i>
inline void exchange(V &x, V &y, std::integer_sequence<int, i...>) {
    // pairs of N numbers: the second of x's pairs change places with the first of y's
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

// part of b, (depth, columns), to rows of `width` numbers, whole vectors; what is not there is 0
void put_panel(const Matrix &b, int64_t depth, int64_t columns, int64_t width, float *to) {
    if (b.right == 1) {
        const int64_t whole = columns / L * L;
        for (int64_t k = 0; k < depth; k++) {
            const float *from = b.first + k * b.down;
            for (int64_t n = 0; n < whole; n += L) write(to + k * width + n, read(from + n));
            if (whole < width) write(to + k * width + whole, read_some(from + whole, columns - whole));
        }
        return;
    }
    for (int64_t n = 0; n < width; n += L) {
        int64_t k = 0;
        if (b.down == 1 && n + L <= columns)
            for (; k + L <= depth; k += L) {
                V x[L];
                for (int i = 0; i < L; i++) x[i] = read(b.from(k, n + i).first);
                turn(x);
                for (int i = 0; i < L; i++) write(to + (k + i) * width + n, x[i]);
            }
        for (; k < depth; k++)
            for (int64_t i = n; i < n + L; i++) to[k * width + i] = i < columns ? *b.from(k, i).first : 0;
    }
}

// part of a, (rows, depth), to tiles of R rows, one behind the other, whose columns stand one behind the other
void put_tiles(const Matrix &a, int64_t rows, int64_t depth, float *to) {
    for (int64_t r = 0; r < rows; r += R, to += R * depth) {
        const int64_t high = std::min<int64_t>(R, rows - r);
        for (int64_t k = 0; k < depth; k++) {
            const float *from = a.from(r, k).first;
            if (high == R && a.down == 1)
                std::memcpy(to + k * R, from, R * sizeof(float));
            else
                for (int64_t i = 0; i < high; i++) to[k * R + i] = from[i * a.down];
        }
    }
}

// a's rows from `begin` to `end` times b
void product(const Matrix &a, const Matrix &b, int64_t begin, int64_t end, int64_t depth, int64_t columns, float *to,
             float *room) {
    const int64_t vectors = (columns + L - 1) / L, panels = (vectors + VECTORS - 1) / VECTORS;
    const auto column = [&](int64_t p) { return vectors * p / panels * L; };  // where a panel begins: all as wide, or nearly
    const bool lies = b.right == 1 && panels == 1 && columns % L == 0;
    // numbers so far apart share few places of the first cache: they are put together once, not fetched for each panel
    const bool tiled = a.right >= FAR && panels > 1;
    float *const tiles = room + DEPTH * PANELS * VECTORS * L;
    for (int64_t group = 0; group < panels; group += PANELS) {
        const int64_t stop = std::min(group + PANELS, panels);
        for (int64_t k = 0; k < depth; k += DEPTH) {
            const int64_t deep = std::min(DEPTH, depth - k);
            for (int64_t p = group; p < stop && !lies; p++)
                put_panel(b.from(k, column(p)), deep, std::min(column(p + 1), columns) - column(p),
                          column(p + 1) - column(p), room + (column(p) - column(group)) * deep);
            for (int64_t block = begin; block < end; block += ROWS) {
                const int64_t last = std::min(block + ROWS, end);
                if (tiled) put_tiles(a.from(block, k), last - block, deep, tiles);
                for (int64_t p = group; p < stop; p++) {
                    const int64_t width = column(p + 1) - column(p);
                    const float *panel = lies ? b.from(k, 0).first : room + (column(p) - column(group)) * deep;
                    const int64_t step = lies ? b.down : width, have = std::min(column(p + 1), columns) - column(p + 1) + L;
                    Tile *const whole = tile_of(R, width / L, k > 0);
                    for (int64_t r = block; r < last; r += R) {
                        Tile *const some = r + R <= last ? whole : tile_of(last - r, width / L, k > 0);
                        const Matrix part = tiled ? Matrix{tiles + (r - block) * deep, 1, R} : a.from(r, k);
                        some(part, panel, step, deep, to + r * columns + column(p), columns, have);
                    }
                }
            }
        }
    }
}

}  // namespace

// to (models, rows, columns), side by side; strides of a and b are of (model, row, column). Returns whether there was room.
extern "C" int qkvlab_products(const float *a, const int64_t *a_step, const float *b, const int64_t *b_step, float *to,
                               int64_t models, int64_t rows, int64_t depth, int64_t columns, int64_t threads) {
    const int64_t tiles = (rows + R - 1) / R, count = models * tiles;
    bool done = true;
    const auto work = [&](int64_t from, int64_t end) {
        static thread_local float *room = nullptr;  // a thread keeps it from call to call
        if (!room)
            room = static_cast<float *>(std::aligned_alloc(64, DEPTH * (PANELS * VECTORS * L + ROWS) * sizeof(float)));
        if (!room) {
            done = false;
            return;
        }
        while (from < end) {
            const int64_t m = from / tiles, first = from % tiles, last = std::min(tiles, first + end - from);
            product({a + m * a_step[0], a_step[1], a_step[2]}, {b + m * b_step[0], b_step[1], b_step[2]}, first * R,
                    std::min(last * R, rows), depth, columns, to + m * rows * columns, room);
            from += last - first;
        }
    };
#ifdef _OPENMP
    threads = std::max<int64_t>(1, std::min(threads, count));
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            const int64_t n = omp_get_num_threads(), i = omp_get_thread_num();
            work(count * i / n, count * (i + 1) / n);
        }
        return done;
    }
#endif
    work(0, count);
    return done;
}

// The same for programs of PyTorch's compiler, which call it as a kernel of its own. Of PyTorch it needs these functions, in
// C; their addresses are given once, since they are not found by name where PyTorch is loaded from Python.
typedef struct AtenTensorOpaque *Tensor;
static struct {
    int32_t (*data_ptr)(Tensor, void **);
    int32_t (*sizes)(Tensor, int64_t **);
    int32_t (*strides)(Tensor, int64_t **);
    int32_t (*dtype)(Tensor, int32_t *);
    int32_t (*empty)(int64_t, const int64_t *, const int64_t *, int32_t dtype, int32_t device, int32_t index, Tensor *);
} of_torch;

extern "C" void qkvlab_connect(void *const *functions) { std::memcpy(&of_torch, functions, sizeof of_torch); }

extern "C" int32_t aoti_torch_cpu_product(Tensor a, Tensor b, Tensor *made) {
    void *from[2], *to;
    int64_t *size[2], *step[2];
    int32_t dtype;
    const Tensor given[] = {a, b};
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
    return !qkvlab_products((const float *)from[0], step[0], (const float *)from[1], step[1], (float *)to, models, rows,
                            depth, columns, threads);
}
