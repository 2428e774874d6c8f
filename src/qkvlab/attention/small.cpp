// softmax(q k^T / root) v and its gradient, one head after the other, for sequences whose scores fit into the caches of
// a core. Nothing of queries x keys leaves this file: the gradient makes the weights again from one number per query.
//
// Compiled for one size:  T queries   S keys   C channels of q and k   E channels of v   CAUSAL   MASKED   HALF (bf16)
// Sums are kept in fp32 whatever the type of the numbers.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr int L = 16;  // numbers of a vector; compilers split it where registers are shorter
constexpr int R = 8;   // rows of a block: so many sums are under way at once that none waits for the one before
constexpr int up(int n, int m) { return (n + m - 1) / m * m; }
constexpr int TR = up(T, R), SL = up(S, L), CL = up(C, L), EL = up(E, L);
constexpr float NONE = -INFINITY;

typedef float V __attribute__((vector_size(4 * L)));
typedef int32_t I __attribute__((vector_size(4 * L)));

#if HALF
typedef uint16_t X;
inline float number(X x) {
    uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}
inline X rounded(float y) {
    uint32_t bits;
    std::memcpy(&bits, &y, 4);
    return y != y ? X(0x7fc0) : X((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float X;
inline float number(X x) { return x; }
inline X rounded(float y) { return y; }
#endif

inline V &at(float *p) { return *reinterpret_cast<V *>(p); }
inline const V &at(const float *p) { return *reinterpret_cast<const V *>(p); }

struct Larger {
    template <class W>
    static W of(W a, W b) { return b > a ? b : a; }
};
struct Sum {
    template <class W>
    static W of(W a, W b) { return a + b; }
};

// by halves, so that the reductions of several rows run side by side
template <class Join, int N>
inline float reduced(const float *x) {
    if constexpr (N == 2) {
        return Join::of(x[0], x[1]);
    } else {
        typedef float W __attribute__((vector_size(4 * N / 2)));
        W a, b;
        std::memcpy(&a, x, sizeof a);
        std::memcpy(&b, x + N / 2, sizeof b);
        a = Join::of(a, b);
        return reduced<Join, N / 2>(reinterpret_cast<const float *>(&a));
    }
}

inline float largest(const V &x) { return reduced<Larger, L>(reinterpret_cast<const float *>(&x)); }
inline float total(const V &x) { return reduced<Sum, L>(reinterpret_cast<const float *>(&x)); }

// e^x to about one rounding of fp32; 0 below the smallest normal number, NaN for NaN
inline V exponential(V x) {
    V low = x < -87.0f ? V{} - 87.0f : x;
    low = low > 88.0f ? V{} + 88.0f : low;
    V n = (low * 1.44269504f + 12582912.0f) - 12582912.0f;  // to the next whole number
    V f = low - n * 0.693359375f + n * 2.12194440e-4f;
    V y = V{} + 1.9875691500e-4f;
    y = y * f + 1.3981999507e-3f;
    y = y * f + 8.3334519073e-3f;
    y = y * f + 4.1665795894e-2f;
    y = y * f + 1.6666665459e-1f;
    y = y * f + 5.0000001201e-1f;
    y = y * f * f + f + 1.0f;
    I power = (__builtin_convertvector(n, I) + 127) << 23;
    V scale;
    std::memcpy(&scale, &power, sizeof scale);
    return x < -87.0f ? V{} : y * scale;
}

template <int N>
void read_rows(const X *from, int64_t stride, int rows, float scale, float *to, int width) {
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < N; i++) to[r * width + i] = number(from[r * stride + i]) * scale;
    }
}

// rows -> columns: to[i][r]
template <int N>
void turn(const float *from, int width, int rows, float *to) {
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < N; i++) to[i * SL + r] = from[r * width + i];
}

template <int N>
void write_rows(const float *from, int width, int rows, X *to, int64_t stride) {
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < N; i++) to[r * stride + i] = rounded(from[r * width + i]);
}

// R rows of a (N numbers each) times the columns from `column` on: VECTORS vectors of products for each row
template <int N, int VECTORS>
inline void products(const float *a, int width, const float *columns, int column, float *to) {
    V sum[R][VECTORS] = {};
    for (int i = 0; i < N; i++) {
        const float *b = columns + i * SL + column;
        for (int r = 0; r < R; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] += a[r * width + i] * at(b + v * L);
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < VECTORS; v++) at(to + r * SL + column + v * L) = sum[r][v];
}

template <int N>
inline void all_products(const float *a, int width, const float *columns, int vectors, float *to) {
    int v = 0;
    for (; v + 2 <= vectors; v += 2) products<N, 2>(a, width, columns, v * L, to);
    if (v < vectors) products<N, 1>(a, width, columns, v * L, to);
}

// for R rows: to[r] = scale[r] * sum over n of weight[r * across + n * along] * rows[n], channels 0 to WIDTH
template <int WIDTH>
inline void sums(const float *weight, int across, int along, const float *rows, int begin, int end, const float *scale,
                 float *to, bool add) {
    constexpr int TOGETHER = WIDTH / L > 1 ? 2 : 1;
    for (int c = 0; c < WIDTH; c += TOGETHER * L) {
        const int have = (WIDTH - c) / L < TOGETHER ? 1 : TOGETHER;
        V sum[R][TOGETHER] = {};
        for (int n = begin; n < end; n++) {
            const float *b = rows + n * WIDTH + c;
            for (int r = 0; r < R; r++)
                for (int v = 0; v < TOGETHER; v++) {
                    if (v < have) sum[r][v] += weight[r * across + n * along] * at(b + v * L);
                }
        }
        for (int r = 0; r < R; r++)
            for (int v = 0; v < have; v++) {
                V &y = at(to + r * WIDTH + c + v * L);
                V x = sum[r][v] * scale[r];
                y = add ? y + x : x;
            }
    }
}

struct Places {
    I index;
    Places() {
        for (int i = 0; i < L; i++) index[i] = i;
    }
};

// scores of R queries from `first` on, hidden ones set to -inf; returns how many vectors of keys there are
inline int scores(const float *q, const float *keys, int first, const uint8_t *mask, const int64_t *step, float *to) {
    const int seen = CAUSAL ? (first + R < S ? first + R : S) : S;
    const int vectors = up(seen, L) / L;
    all_products<C>(q + first * CL, CL, keys, vectors, to);
    static const Places places;
    for (int r = 0; r < R; r++) {
        const int last = CAUSAL ? first + r : S - 1;
        for (int v = CAUSAL ? first / L : S / L; v < vectors; v++) {
            V &x = at(to + r * SL + v * L);
            x = places.index + v * L > last ? V{} + NONE : x;
        }
#if MASKED
        const uint8_t *row = mask + (first + r < T ? first + r : T - 1) * step[3];
        for (int s = 0; s < vectors * L; s++)
            if (s >= S || !row[s * step[4]]) to[r * SL + s] = NONE;
#endif
    }
    return vectors;
}

}  // namespace

// Strides are of (model, batch, head, token), in numbers; those of channels are 1. `mask` also has one of keys.
// sizes: models, batch, query heads, key heads, value heads
extern "C" void forward(const X *q, const X *k, const X *v, const uint8_t *mask, X *out, float *logs,
                        const int64_t *sizes, const int64_t *q_step, const int64_t *k_step, const int64_t *v_step,
                        const int64_t *mask_step, const int64_t *out_step, float root) {
    alignas(64) static thread_local float queries[TR * CL], keys[SL * CL], columns[C * SL], values[SL * EL],
        weights[R * SL], brought[R * EL];
    const int64_t heads = sizes[2], per_key = heads / sizes[3], per_value = heads / sizes[4];
    for (int64_t m = 0; m < sizes[0]; m++)
        for (int64_t b = 0; b < sizes[1]; b++)
            for (int64_t h = 0; h < heads; h++) {
                read_rows<C>(q + m * q_step[0] + b * q_step[1] + h * q_step[2], q_step[3], T, 1 / root, queries, CL);
                if (h % per_key == 0) {
                    read_rows<C>(k + m * k_step[0] + b * k_step[1] + h / per_key * k_step[2], k_step[3], S, 1, keys, CL);
                    turn<C>(keys, CL, S, columns);
                }
                if (h % per_value == 0)
                    read_rows<E>(v + m * v_step[0] + b * v_step[1] + h / per_value * v_step[2], v_step[3], S, 1, values, EL);
                const uint8_t *seen = mask ? mask + m * mask_step[0] + b * mask_step[1] + h * mask_step[2] : nullptr;
                X *to = out + m * out_step[0] + b * out_step[1] + h * out_step[2];
                float *log = logs + ((m * sizes[1] + b) * heads + h) * T;
                for (int first = 0; first < T; first += R) {
                    const int vectors = scores(queries, columns, first, seen, mask_step, weights);
                    float scale[R];
                    for (int r = 0; r < R; r++) {
                        float *row = weights + r * SL;
                        V top = V{} + NONE, sum = {};
                        for (int i = 0; i < vectors; i++) top = at(row + i * L) > top ? at(row + i * L) : top;
                        float most = largest(top);
                        most = most == NONE ? 0 : most;  // sees nothing: all weights are 0
                        for (int i = 0; i < vectors; i++) sum += at(row + i * L) = exponential(at(row + i * L) - most);
                        const float whole = total(sum);
                        scale[r] = whole == 0 ? 0 : 1 / whole;
                        if (first + r < T) log[first + r] = whole == 0 ? INFINITY : most + std::log(whole);
                    }
                    const int end = vectors * L < S ? vectors * L : S;
                    sums<EL>(weights, SL, 1, values, 0, end, scale, brought, false);
                    write_rows<E>(brought, EL, T - first < R ? T - first : R, to + first * out_step[3], out_step[3]);
                }
            }
}

extern "C" void backward(const X *q, const X *k, const X *v, const uint8_t *mask, const X *out_grad, const float *logs,
                         X *q_grad, X *k_grad, X *v_grad, const int64_t *sizes, const int64_t *q_step,
                         const int64_t *k_step, const int64_t *v_step, const int64_t *mask_step,
                         const int64_t *out_step, const int64_t *q_to, const int64_t *k_to, const int64_t *v_to,
                         float root) {
    alignas(64) static thread_local float queries[TR * CL], keys[SL * CL], key_columns[C * SL], values[SL * EL],
        value_columns[E * SL], grads[TR * EL], weights[TR * SL], slopes[TR * SL], some[R * CL],
        keys_to[up(SL, R) * CL], values_to[up(SL, R) * EL];
    const int64_t heads = sizes[2], per_key = heads / sizes[3], per_value = heads / sizes[4];
    float ones[R], roots[R];
    for (int r = 0; r < R; r++) ones[r] = 1, roots[r] = 1 / root;
    for (int64_t m = 0; m < sizes[0]; m++)
        for (int64_t b = 0; b < sizes[1]; b++)
            for (int64_t h = 0; h < heads; h++) {
                const int64_t key = h / per_key, value = h / per_value;
                read_rows<C>(q + m * q_step[0] + b * q_step[1] + h * q_step[2], q_step[3], T, 1 / root, queries, CL);
                read_rows<E>(out_grad + m * out_step[0] + b * out_step[1] + h * out_step[2], out_step[3], T, 1, grads, EL);
                if (h % per_key == 0) {
                    read_rows<C>(k + m * k_step[0] + b * k_step[1] + key * k_step[2], k_step[3], S, 1, keys, CL);
                    turn<C>(keys, CL, S, key_columns);
                }
                if (h % per_value == 0) {
                    read_rows<E>(v + m * v_step[0] + b * v_step[1] + value * v_step[2], v_step[3], S, 1, values, EL);
                    turn<E>(values, EL, S, value_columns);
                }
                const uint8_t *seen = mask ? mask + m * mask_step[0] + b * mask_step[1] + h * mask_step[2] : nullptr;
                const float *log = logs + ((m * sizes[1] + b) * heads + h) * T;
                X *to = q_grad + m * q_to[0] + b * q_to[1] + h * q_to[2];
                for (int first = 0; first < T; first += R) {
                    float *weight = weights + first * SL, *slope = slopes + first * SL;
                    const int vectors = scores(queries, key_columns, first, seen, mask_step, weight);
                    all_products<E>(grads + first * EL, EL, value_columns, vectors, slope);
                    for (int r = 0; r < R; r++) {
                        const float whole = first + r < T ? log[first + r] : INFINITY;
                        float *p = weight + r * SL, *d = slope + r * SL;
                        V mean = {};
                        for (int i = 0; i < vectors * L; i += L) {
                            at(p + i) = exponential(at(p + i) - whole);
                            mean += at(p + i) * at(d + i);
                        }
                        const float middle = total(mean);
                        for (int i = 0; i < vectors * L; i += L) at(d + i) = at(p + i) * (at(d + i) - middle);
                    }
                    const int end = vectors * L < S ? vectors * L : S;
                    sums<CL>(slope, SL, 1, keys, 0, end, roots, some, false);
                    write_rows<C>(some, CL, T - first < R ? T - first : R, to + first * q_to[3], q_to[3]);
                }
                for (int first = 0; first < S; first += R) {
                    const int begin = CAUSAL ? first : 0;
                    sums<CL>(slopes + first, 1, SL, queries, begin, T, ones, keys_to + first * CL, h % per_key != 0);
                    sums<EL>(weights + first, 1, SL, grads, begin, T, ones, values_to + first * EL, h % per_value != 0);
                }
                if ((h + 1) % per_key == 0)
                    write_rows<C>(keys_to, CL, S, k_grad + m * k_to[0] + b * k_to[1] + key * k_to[2], k_to[3]);
                if ((h + 1) % per_value == 0)
                    write_rows<E>(values_to, EL, S, v_grad + m * v_to[0] + b * v_to[1] + value * v_to[2], v_to[3]);
            }
}
