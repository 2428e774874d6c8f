// softmax(q k^T / root) v and its gradient on the CPU, one head after the other, block by block in the caches of a core.
// Nothing of queries x keys is kept beyond a block: softmax runs along (Milakov & Gimelshein, arXiv 1805.02867), and the
// gradient makes the weights again from one number per query (Dao et al., arXiv 2205.14135).
//
// Compiled for  C channels of q and k   E channels of v   MASKED   HALF (bf16)
// Sums are kept in fp32 whatever the type of the numbers.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "vectors.h"

namespace {

constexpr int P = 2 * L;     // keys of a panel, whose channels stand one behind the other
constexpr int QUERIES = 64;  // of a block
constexpr int KEYS = 512;    // of a block: up to so many need no second look
constexpr int KEYS_ONCE = 128;  // of a block that is read once, by one query of each head
constexpr int64_t up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }
constexpr int CL = up(C, L), EL = up(E, L);
constexpr float NONE = -INFINITY;

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

// a vector of numbers where they lie
inline V read(const X *p) {
#if HALF
    typedef uint16_t H __attribute__((vector_size(2 * L)));
    H half;
    std::memcpy(&half, p, sizeof half);
    I bits = __builtin_convertvector(half, I) << 16;
    V y;
    std::memcpy(&y, &bits, sizeof y);
    return y;
#else
    V y;
    std::memcpy(&y, p, sizeof y);
    return y;
#endif
}

// memory that a thread keeps from call to call
class Room {
    float *begin = nullptr;
    int64_t held = 0, used = 0;

public:
    ~Room() { std::free(begin); }
    // make room for so many numbers; what was taken before is gone
    void make(int64_t numbers) {
        used = 0;
        if (numbers <= held) return;
        std::free(begin);
        begin = static_cast<float *>(std::aligned_alloc(64, up(numbers, 16) * sizeof(float)));
        held = begin ? numbers : 0;
        if (!begin) throw std::bad_alloc();
    }
    float *take(int64_t numbers) {
        float *here = begin + used;
        used += up(numbers, L);
        return here;
    }
};

template <int N>
void read_rows(const X *from, int64_t stride, int64_t rows, float scale, float *to) {
    constexpr int WIDTH = up(N, L);
    for (int64_t r = 0; r < rows; r++) {
        for (int i = 0; i < N; i++) to[r * WIDTH + i] = number(from[r * stride + i]) * scale;
        for (int i = N; i < WIDTH; i++) to[r * WIDTH + i] = 0;
    }
}

template <int N>
void write_rows(const float *from, int64_t rows, X *to, int64_t stride) {
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < N; i++) to[r * stride + i] = rounded(from[r * up(N, L) + i]);
}

// rows -> panels of P columns, the last filled up with 0
template <int N>
void turn(const float *from, int64_t rows, float *to) {
    for (int64_t first = 0; first < rows; first += P, to += N * P) {
        const int have = std::min<int64_t>(P, rows - first);
        for (int r = 0; r < have; r++)
            for (int i = 0; i < N; i++) to[i * P + r] = from[(first + r) * up(N, L) + i];
        for (int i = 0; i < N; i++)
            for (int r = have; r < P; r++) to[i * P + r] = 0;
    }
}

// asks for N numbers that are read next, so that memory works meanwhile; a core's second cache, too, comes late by itself
template <int N, class T>
inline void fetch(const T *p) {
    for (int i = 0; i < N; i += 64 / sizeof(T)) __builtin_prefetch(p + i);
}

// R rows of N numbers times a panel: VECTORS vectors of products for each row
template <int N, int VECTORS>
inline void products(const float *a, const float *panel, float *to, int64_t width) {
    V sum[R][VECTORS] = {};
    for (int i = 0; i < N; i++) {
        const float *b = panel + i * P;
        fetch<P>(b + 16 * P);
        for (int r = 0; r < R; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] += a[r * up(N, L) + i] * at(b + v * L);
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < VECTORS; v++) at(to + r * width + v * L) = sum[r][v];
}

// the same with columns `begin`, where a panel begins, up to `end`, where a vector does
template <int N>
inline void all_products(const float *a, const float *panels, int64_t begin, int64_t end, float *to, int64_t width) {
    for (int64_t s = begin; s < end; s += P) {
        if (s + P <= end)
            products<N, 2>(a, panels + s * N, to + s, width);
        else
            products<N, 1>(a, panels + s * N, to + s, width);
    }
}

// for R rows: to[r] = keep[r] * to[r] + scale * sum over n of weight[r * across + n * along] * rows[n], WIDTH channels
template <int WIDTH>
inline void add_sums(const float *weight, int64_t across, int64_t along, const float *rows, int64_t begin, int64_t end,
                     const float *keep, float scale, float *to) {
    constexpr int TOGETHER = WIDTH / L > 1 ? 2 : 1;
    for (int c = 0; c < WIDTH; c += TOGETHER * L) {
        const int have = (WIDTH - c) / L < TOGETHER ? 1 : TOGETHER;
        V sum[R][TOGETHER] = {};
        for (int64_t n = begin; n < end; n++) {
            const float *b = rows + n * WIDTH + c;
            fetch<TOGETHER * L>(b + 8 * WIDTH);
            for (int r = 0; r < R; r++)
                for (int v = 0; v < TOGETHER; v++) {
                    if (v < have) sum[r][v] += weight[r * across + n * along] * at(b + v * L);
                }
        }
        for (int r = 0; r < R; r++)
            for (int v = 0; v < have; v++) {
                V &y = at(to + r * WIDTH + c + v * L);
                y = y * keep[r] + sum[r][v] * scale;
            }
    }
}

struct Places {
    I index;
    Places() {
        for (int i = 0; i < L; i++) index[i] = i;
    }
};

// what a call is about; strides are of (model, batch, head, token, key of a mask), and those of channels are 1
struct Call {
    int64_t models, batch, heads, key_heads, value_heads, queries, keys;
    int64_t shift;   // the key at which query 0 stands
    int64_t window;  // a query sees keys nearer than this
    int64_t causal, threads;

    int64_t per_key() const { return heads / key_heads; }
    int64_t per_value() const { return heads / value_heads; }
    // the first and the last key that a query sees; the first may be the larger one
    int64_t first(int64_t query) const { return std::max<int64_t>(0, query + shift - window + 1); }
    int64_t last(int64_t query) const {
        return std::min(keys - 1, causal ? query + shift : query + shift + window - 1);
    }
};

// what is given in numbers: a call, then five strides of each tensor
inline const Call &call_of(const int64_t *numbers) { return *reinterpret_cast<const Call *>(numbers); }
inline const int64_t *step_of(const int64_t *numbers, int i) { return numbers + sizeof(Call) / sizeof(int64_t) + 5 * i; }

// where a head of a tensor begins
template <class T>
inline T *head_of(T *x, const int64_t *step, int64_t m, int64_t b, int64_t h) {
    return x + m * step[0] + b * step[1] + h * step[2];
}

// A tile: R queries from `row` on and the keys of a block that any of them sees.
struct Tile {
    int64_t begin, end;  // keys from the block's first on; begin where a panel begins, end where a vector does

    Tile(const Call &call, int64_t row, int64_t block, int64_t width) {
        const int64_t below = std::min(row + R, call.queries) - 1;
        begin = std::max<int64_t>(0, call.first(row) - block) / P * P;
        end = std::min(width, up(std::max<int64_t>(0, call.last(below) + 1 - block), L));
    }
    bool empty() const { return end <= begin; }
};

// scores of a tile; hidden ones are -inf
inline void scores(const Call &call, const Tile &tile, const float *q, const float *panels, int64_t row, int64_t block,
                   const uint8_t *mask, const int64_t *mask_step, float *to, int64_t width) {
    static const Places places;
    all_products<C>(q, panels, tile.begin, tile.end, to, width);
    for (int r = 0; r < R; r++) {
        const int64_t query = std::min(row + r, call.queries - 1);
        const int64_t first = call.first(query) - block, last = call.last(query) - block;
        for (int64_t s = tile.begin; s < tile.end; s += L) {
            if (first <= s && s + L - 1 <= last) {
                s = std::max(s, (last - L + 1) / L * L);  // whole vectors are seen up to there
                if (s + L - 1 <= last) continue;
            }
            V &x = at(to + r * width + s);
            const I place = places.index + int32_t(s);
            x = place > int32_t(last) ? V{} + NONE : x;
            x = place < int32_t(std::max<int64_t>(first, 0)) ? V{} + NONE : x;
        }
#if MASKED
        const uint8_t *seen = mask + query * mask_step[3] + block * mask_step[4];
        for (int64_t s = tile.begin; s < tile.end; s++)
            if (block + s >= call.keys || !seen[s * mask_step[4]]) to[r * width + s] = NONE;
#endif
    }
}

}  // namespace

// All return whether there was memory for it.
extern "C" int forward(const X *q, const X *k, const X *v, const uint8_t *mask, X *out, float *logs,
                       const int64_t *numbers, float root) {
    const Call &call = call_of(numbers);
    const int64_t *q_step = step_of(numbers, 0), *k_step = step_of(numbers, 1), *v_step = step_of(numbers, 2);
    const int64_t *mask_step = step_of(numbers, 3), *out_step = step_of(numbers, 4);
    const int64_t T = call.queries, S = call.keys, wide = up(S, P), width = std::min<int64_t>(wide, KEYS);
    const int64_t blocks = up(T, QUERIES) / QUERIES;
    std::atomic<bool> failed{false};
    // of one head there are several blocks of queries, so that few heads keep many threads busy
    in_parts(call.models * call.batch * call.heads * blocks, call.threads, [&](int64_t from, int64_t to) {
        static thread_local Room room;
        try {
            room.make(2 * L + wide * (C + CL + EL) + QUERIES * (CL + EL) + R * width);
        } catch (const std::bad_alloc &) {
            failed = true;
            return;
        }
        float *rows = room.take(wide * CL), *panels = room.take(wide * C), *values = room.take(wide * EL);
        float *queries = room.take(QUERIES * CL), *brought = room.take(QUERIES * EL), *weights = room.take(R * width);
        int64_t key_there = -1, value_there = -1;
        for (int64_t n = from; n < to; n++) {
            const int64_t h = n / blocks % call.heads, b = n / blocks / call.heads % call.batch;
            const int64_t m = n / blocks / call.heads / call.batch, begin = n % blocks * QUERIES;
            const int64_t count = std::min<int64_t>(QUERIES, T - begin);
            const int64_t key = (m * call.batch + b) * call.key_heads + h / call.per_key();
            const int64_t value = (m * call.batch + b) * call.value_heads + h / call.per_value();
            if (key != key_there) {
                read_rows<C>(head_of(k, k_step, m, b, h / call.per_key()), k_step[3], S, 1, rows);
                turn<C>(rows, S, panels);
                key_there = key;
            }
            if (value != value_there) {
                read_rows<E>(head_of(v, v_step, m, b, h / call.per_value()), v_step[3], S, 1, values);
                value_there = value;
            }
            read_rows<C>(head_of(q, q_step, m, b, h) + begin * q_step[3], q_step[3], count, 1 / root, queries);
            const uint8_t *seen = mask ? head_of(mask, mask_step, m, b, h) : nullptr;
            std::memset(brought, 0, QUERIES * EL * sizeof(float));
            float top[QUERIES], whole[QUERIES] = {};
            std::fill(top, top + QUERIES, NONE);
            const int64_t begin_keys = call.first(begin) / KEYS * KEYS;
            for (int64_t block = begin_keys; block <= call.last(begin + count - 1); block += KEYS) {
                for (int64_t r0 = 0; r0 < count; r0 += R) {
                    const Tile tile(call, begin + r0, block, std::min(width, wide - block));
                    if (tile.empty()) continue;
                    scores(call, tile, queries + r0 * CL, panels + block * C, begin + r0, block, seen, mask_step,
                           weights, width);
                    float keep[R];
                    V high[R];
                    for (int r = 0; r < R; r++) high[r] = V{} + top[r0 + r];
                    for (int64_t s = tile.begin; s < tile.end; s += L)
                        for (int r = 0; r < R; r++) {
                            const V &x = at(weights + r * width + s);
                            high[r] = x > high[r] ? x : high[r];
                        }
                    for (int r = 0; r < R; r++) {
                        float *row = weights + r * width, &most = top[r0 + r];
                        V sum = {};
                        const float now = largest(high[r]), base = now == NONE ? 0 : now;  // it sees nothing yet: all are 0
                        for (int64_t s = tile.begin; s < tile.end; s += L)
                            sum += at(row + s) = exponential(at(row + s) - base);
                        keep[r] = most == NONE ? 1 : std::exp(most - base);  // of what is 0, or NaN and stays so
                        whole[r0 + r] = whole[r0 + r] * keep[r] + total(sum);
                        most = now;
                    }
                    add_sums<EL>(weights, width, 1, values + block * EL, tile.begin, std::min(tile.end, S - block), keep,
                                 1, brought + r0 * EL);
                }
            }
            float *log = logs + ((m * call.batch + b) * call.heads + h) * T + begin;
            for (int64_t r = 0; r < count; r++) {
                const float scale = whole[r] == 0 ? 0 : 1 / whole[r];
                for (int c = 0; c < EL; c += L) at(brought + r * EL + c) *= scale;
                log[r] = whole[r] == 0 ? INFINITY : (top[r] == NONE ? 0 : top[r]) + std::log(whole[r]);
            }
            write_rows<E>(brought, count, head_of(out, out_step, m, b, h) + begin * out_step[3], out_step[3]);
        }
    });
    return !failed;
}

extern "C" int backward(const X *q, const X *k, const X *v, const uint8_t *mask, const X *out, const X *out_grad,
                        const float *logs, X *q_grad, X *k_grad, X *v_grad, const int64_t *numbers, float root) {
    const Call &call = call_of(numbers);
    const int64_t *q_step = step_of(numbers, 0), *k_step = step_of(numbers, 1), *v_step = step_of(numbers, 2);
    const int64_t *mask_step = step_of(numbers, 3), *out_step = step_of(numbers, 4), *grad_step = step_of(numbers, 5);
    const int64_t *q_to = step_of(numbers, 6), *k_to = step_of(numbers, 7), *v_to = step_of(numbers, 8);
    const int64_t T = call.queries, S = call.keys, wide = up(S, P), width = std::min<int64_t>(wide, KEYS);
    const int64_t tall = up(T, R), table = std::min<int64_t>(tall, QUERIES) * width;
    // heads that share a key or a value head belong to one thread, which adds up what they bring
    const int64_t together = std::lcm(call.per_key(), call.per_value()), sets = call.heads / together;
    float ones[R];
    std::fill(ones, ones + R, 1.0f);
    std::atomic<bool> failed{false};
    in_parts(call.models * call.batch * sets, call.threads, [&](int64_t from, int64_t to) {
        static thread_local Room room;
        try {
            room.make(16 * L + tall * (2 * CL + 2 * EL + 2) + wide * (C + 2 * CL + 2 * EL + E) + 2 * table);
        } catch (const std::bad_alloc &) {
            failed = true;
            return;
        }
        float *queries = room.take(tall * CL), *queries_to = room.take(tall * CL), *grads = room.take(tall * EL);
        float *outs = room.take(tall * EL), *middle = room.take(tall), *log = room.take(tall);
        float *rows = room.take(wide * CL), *panels = room.take(wide * C), *keys_to = room.take(wide * CL);
        float *values = room.take(wide * EL), *value_panels = room.take(wide * E), *values_to = room.take(wide * EL);
        float *weights = room.take(table), *slopes = room.take(table);
        for (int64_t n = from; n < to; n++) {
            const int64_t m = n / sets / call.batch, b = n / sets % call.batch;
            for (int64_t h = n % sets * together; h < (n % sets + 1) * together; h++) {
                const int64_t key = h / call.per_key(), value = h / call.per_value();
                read_rows<C>(head_of(q, q_step, m, b, h), q_step[3], T, 1 / root, queries);
                read_rows<E>(head_of(out_grad, grad_step, m, b, h), grad_step[3], T, 1, grads);
                std::memcpy(log, logs + ((m * call.batch + b) * call.heads + h) * T, T * sizeof(float));
                // the mean of what a query's keys would bring; where all are in one block it is made of their weights, so
                // that slopes add up to 0 to the last digit
                if (S > KEYS) {
                    read_rows<E>(head_of(out, out_step, m, b, h), out_step[3], T, 1, outs);
                    for (int64_t t = 0; t < T; t++) {
                        V sum = {};
                        for (int c = 0; c < EL; c += L) sum += at(grads + t * EL + c) * at(outs + t * EL + c);
                        middle[t] = total(sum);
                    }
                }
                // rows that only fill a tile up weigh nothing
                std::fill(log + T, log + tall, INFINITY);
                std::fill(middle + T, middle + tall, 0.0f);
                std::memset(queries + T * CL, 0, (tall - T) * CL * sizeof(float));
                std::memset(grads + T * EL, 0, (tall - T) * EL * sizeof(float));
                std::memset(queries_to, 0, tall * CL * sizeof(float));
                if (h % call.per_key() == 0) {
                    read_rows<C>(head_of(k, k_step, m, b, key), k_step[3], S, 1, rows);
                    turn<C>(rows, S, panels);
                    std::memset(keys_to, 0, wide * CL * sizeof(float));
                }
                if (h % call.per_value() == 0) {
                    read_rows<E>(head_of(v, v_step, m, b, value), v_step[3], S, 1, values);
                    turn<E>(values, S, value_panels);
                    std::memset(values_to, 0, wide * EL * sizeof(float));
                }
                const uint8_t *seen = mask ? head_of(mask, mask_step, m, b, h) : nullptr;
                for (int64_t block = 0; block < S; block += KEYS) {
                    const int64_t here = std::min(width, wide - block);
                    for (int64_t begin = 0; begin < T; begin += QUERIES) {
                        const int64_t stop = std::min<int64_t>(begin + QUERIES, tall), below = std::min(stop, T) - 1;
                        if (call.last(below) < block || call.first(begin) >= block + here) continue;
                        for (int64_t row = begin; row < stop; row += R) {
                            const Tile tile(call, row, block, here);
                            float *weight = weights + (row - begin) * width, *slope = slopes + (row - begin) * width;
                            if (!tile.empty()) {
                                scores(call, tile, queries + row * CL, panels + block * C, row, block, seen, mask_step,
                                       weight, width);
                                all_products<E>(grads + row * EL, value_panels + block * E, tile.begin, tile.end, slope,
                                                width);
                            }
                            for (int r = 0; r < R; r++) {
                                float *p = weight + r * width, *d = slope + r * width;
                                V mean = {}, sum = {};
                                for (int64_t s = tile.begin; s < tile.end; s += L) {
                                    sum += at(p + s) = exponential(at(p + s) - log[row + r]);
                                    mean += at(p + s) * at(d + s);
                                }
                                if (S <= KEYS) {  // the log was rounded: by their own sum weights add up to 1
                                    const float whole = total(sum), scale = whole == 0 ? 0 : 1 / whole;
                                    middle[row + r] = total(mean) * scale;
                                    for (int64_t s = tile.begin; s < tile.end; s += L) at(p + s) *= scale;
                                }
                                for (int64_t s = tile.begin; s < tile.end; s += L)
                                    at(d + s) = at(p + s) * (at(d + s) - middle[row + r]);
                                for (float *x : {p, d}) {  // what nobody sees of the block
                                    const int64_t end = std::max(tile.begin, tile.end);
                                    std::fill(x, x + std::min(tile.begin, here), 0.0f);
                                    if (end < here) std::fill(x + end, x + here, 0.0f);
                                }
                            }
                            if (!tile.empty())
                                add_sums<CL>(slope, width, 1, rows + block * CL, tile.begin,
                                             std::min(tile.end, S - block), ones, 1 / root, queries_to + row * CL);
                        }
                        for (int64_t s = 0; s < std::min(here, up(S - block, R)); s += R) {
                            // causal: no query before its place sees a key
                            const int64_t start = call.causal ? std::max(begin, block + s - call.shift) : begin;
                            add_sums<CL>(slopes + s - begin * width, 1, width, queries, start, stop, ones, 1,
                                         keys_to + (block + s) * CL);
                            add_sums<EL>(weights + s - begin * width, 1, width, grads, start, stop, ones, 1,
                                         values_to + (block + s) * EL);
                        }
                    }
                }
                write_rows<C>(queries_to, T, head_of(q_grad, q_to, m, b, h), q_to[3]);
                if ((h + 1) % call.per_key() == 0)
                    write_rows<C>(keys_to, S, head_of(k_grad, k_to, m, b, key), k_to[3]);
                if ((h + 1) % call.per_value() == 0)
                    write_rows<E>(values_to, S, head_of(v_grad, v_to, m, b, value), v_to[3]);
            }
        }
    });
    return !failed;
}

#if C % 16 == 0 && E % 16 == 0
namespace {

constexpr int AHEAD = 16;           // keys, where each is read when its turn comes
constexpr int MOST = 8, LEAST = 4;  // heads that share what is read of a key or a value; fewer read it one by one


template <int... i>
inline V shuffled(const V &a, const V &b) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, i...);
#else
    return __builtin_shuffle(a, b, I{i...});
#endif
}

template <int... i>
inline V paired(const V &a, const V &b, std::integer_sequence<int, i...>) {
    return shuffled<2 * i...>(a, b) + shuffled<2 * i + 1 ...>(a, b);
}

// the sums of every N neighbours in N vectors
template <int N>
inline V neighbours(V *x) {
    if constexpr (N == 1) {
        return x[0];
    } else {
        for (int i = 0; i < N / 2; i++) x[i] = paired(x[2 * i], x[2 * i + 1], std::make_integer_sequence<int, L>());
        return neighbours<N / 2>(x);
    }
}

template <int BY, int... i>
inline V rotated(const V &x, std::integer_sequence<int, i...>) {
    return shuffled<(i + BY) % L...>(x, x);
}

// joins all numbers whose places are alike modulo N
template <class Join, int N>
inline V alike(V x) {
    if constexpr (N == L) {
        return x;
    } else {
        return alike<Join, 2 * N>(Join::of(x, rotated<N>(x, std::make_integer_sequence<int, L>())));
    }
}

// N numbers, again and again
template <int N>
inline V repeated(const float *p) {
    static_assert(N == 1 || N == 2 || (N == 4 && L == 16));
    V y;
    if constexpr (N == 1) {
        y = V{} + *p;
    } else if constexpr (N == 2) {
        typedef int64_t J __attribute__((vector_size(4 * L)));
        int64_t two;
        std::memcpy(&two, p, sizeof two);
        const J all = J{} + two;
        std::memcpy(&y, &all, sizeof y);
    } else {
        typedef float W __attribute__((vector_size(16), aligned(4), may_alias));
        asm("vbroadcastf32x4 %1, %0" : "=v"(y) : "m"(*reinterpret_cast<const W *>(p)));  // which compilers do not find
    }
    return y;
}

// what is read one row after the other, where it lies
struct Lines {
    const X *first;
    int64_t stride;
    const X *of(int64_t n) const { return first + n * stride; }
};

// `rows` queries times `count` keys; to[r * KEYS_ONCE + s], up to whole vectors. What is added up across a vector is that of
// as many keys as it has numbers, together
inline void scores_of_few(const float *queries, int64_t rows, Lines keys, int64_t count, float *to) {
    for (int64_t s = 0; s < count; s += L) {
        for (int n = 0; n < L; n++) fetch<C>(keys.of(s + n + AHEAD));
        for (int64_t r = 0; r < rows; r++) {
            V sum[L] = {};
            for (int n = 0; n < L; n++) {
                const X *key = keys.of(std::min(s + n, count - 1));
                for (int i = 0; i < C; i += L) sum[n] += read(key + i) * at(queries + r * C + i);
            }
            at(to + r * KEYS_ONCE + s) = neighbours<L>(sum);
        }
    }
}

// to[r] = keep[r] * to[r] + weights of ROWS queries times values, from channel c on. Query r weighs key s by
// weights[r * across + s * along]; `next` are keys that are read next
template <int ROWS, int c = 0>
inline void sums_once(const float *weights, int64_t across, int64_t along, Lines values, Lines next, int64_t count,
                      const float *keep, float *to) {
    constexpr int VECTORS = std::min((E - c) / L, L / ROWS);  // as many sums as registers hold
    constexpr int APART = std::max(1, R / (ROWS * VECTORS));  // keys whose sums are: few sums would wait for each other
    V sum[APART][ROWS][VECTORS] = {};
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < VECTORS; i++) sum[0][r][i] = at(to + r * E + c + i * L) * keep[r];
    const auto add = [&](int64_t s, V(&sum)[ROWS][VECTORS]) {
        if (ROWS > 1 && next.first) fetch<C>(next.of(s));
        if (ROWS == 1) fetch<E>(values.of(s + AHEAD));
        for (int i = 0; i < VECTORS; i++) {
            const V x = read(values.of(s) + c + i * L);
            for (int r = 0; r < ROWS; r++) sum[r][i] += weights[r * across + s * along] * x;
        }
    };
    int64_t s = 0;
    for (; s + APART <= count; s += APART)
        for (int a = 0; a < APART; a++) add(s + a, sum[a]);
    for (; s < count; s++) add(s, sum[0]);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < VECTORS; i++) {
            for (int a = 1; a < APART; a++) sum[0][r][i] += sum[a][r][i];
            at(to + r * E + c + i * L) = sum[0][r][i];
        }
    if constexpr (c + VECTORS * L < E)
        sums_once<ROWS, c + VECTORS * L>(weights, across, along, values, {}, count, keep, to);
}

// weights of a query, which were scores, to exponentials; returns by how much those of earlier keys shrink
inline float shared_once(float *row, int64_t count, float &most, float &whole) {
    std::fill(row + count, row + up(count, L), NONE);
    V high = V{} + most, sum = {};
    for (int64_t s = 0; s < count; s += L) high = at(row + s) > high ? at(row + s) : high;
    const float now = largest(high), base = now == NONE ? 0 : now;
    for (int64_t s = 0; s < count; s += L) sum += at(row + s) = exponential(at(row + s) - base);
    const float keep = most == NONE ? 1 : std::exp(most - base);
    whole = whole * keep + total(sum), most = now;
    return keep;
}

inline void write_once(float *brought, float whole, X *to) {
    const float scale = whole == 0 ? 0 : 1 / whole;
    for (int i = 0; i < E; i += L) at(brought + i) *= scale;
    write_rows<E>(brought, 1, to, 0);
}

// what the heads that share a key head ask: `q` and `out` are those of the first
struct Asked {
    const X *q;
    X *out;
    int64_t from_query, from_out, heads, count;
    Lines keys, values;
    float scale;

    Lines keys_from(int64_t s) const { return {keys.of(s), keys.stride}; }
    Lines values_from(int64_t s) const { return {values.of(s), values.stride}; }
};

// fewer heads than LEAST, each by itself
inline void one_by_one(const Asked &asked, Room &room) {
    room.make(LEAST * (C + KEYS_ONCE + E) + 3 * L);
    float *queries = room.take(LEAST * C), *weights = room.take(LEAST * KEYS_ONCE), *brought = room.take(LEAST * E);
    float top[LEAST], whole[LEAST] = {};
    std::fill(top, top + LEAST, NONE);
    std::fill(brought, brought + LEAST * E, 0.0f);
    for (int64_t r = 0; r < asked.heads; r++)
        read_rows<C>(asked.q + r * asked.from_query, 0, 1, asked.scale, queries + r * C);
    for (int64_t block = 0; block < asked.count; block += KEYS_ONCE) {
        const int64_t count = std::min<int64_t>(KEYS_ONCE, asked.count - block);
        scores_of_few(queries, asked.heads, asked.keys_from(block), count, weights);
        float keep[LEAST];
        for (int64_t r = 0; r < asked.heads; r++)
            keep[r] = shared_once(weights + r * KEYS_ONCE, count, top[r], whole[r]);
        for (int64_t r = 0; r < asked.heads; r++)
            sums_once<1>(weights + r * KEYS_ONCE, 0, 1, asked.values_from(block), {}, count, keep + r, brought + r * E);
    }
    for (int64_t r = 0; r < asked.heads; r++) write_once(brought + r * E, whole[r], asked.out + r * asked.from_out);
}

// HEADS queries at a time. A vector holds a number of each of them, as often as there is room: G times. So sums over
// channels end where they belong, instead of being added up across a vector for each key and query.
template <int HEADS>
struct Sharing {
    static constexpr int G = L / HEADS, ABREAST = HEADS, NUMBERS = HEADS * (C + KEYS_ONCE + E);
    float *queries;  // (C / G, HEADS, G)
    float *weights;  // (KEYS_ONCE, HEADS)
    float *brought;  // (HEADS, E)
    V most, whole;

    explicit Sharing(float *room)
        : queries(room), weights(queries + HEADS * C), brought(weights + HEADS * KEYS_ONCE), most(V{} + NONE), whole{} {
        std::fill(room, room + NUMBERS, 0.0f);  // heads that only fill a vector up ask for nothing
    }
    void ask(int64_t r, const X *q, float scale) {
        for (int c = 0; c < C; c++) queries[c / G * L + r * G + c % G] = number(q[c]) * scale;
    }
    // weights[s][r]: the scores of `count` keys, and NONE up to a whole vector of them. Not inlined, nor is `add`: what
    // either holds in registers the other would have to leave in memory
    __attribute__((noinline)) void score(Lines keys, Lines values, int64_t count) {
        for (int64_t s = 0; s < count; s += ABREAST) {
            const float *key[ABREAST];
#if HALF
            alignas(64) float numbers[ABREAST][C];
#endif
            for (int n = 0; n < ABREAST; n++) {
                const X *here = keys.of(std::min(s + n, count - 1));
#if HALF
                for (int i = 0; i < C; i += L) at(numbers[n] + i) = read(here + i);
                key[n] = numbers[n];
#else
                key[n] = here;
#endif
            }
            V sum[ABREAST] = {};
            for (int i = 0; i < C; i += L) {
                if (i < E)
                    for (int n = 0; n < ABREAST; n++) __builtin_prefetch(values.of(s + n) + i);
                for (int c = i; c < i + L; c += G) {
                    const V asked = at(queries + c * HEADS);
                    for (int n = 0; n < ABREAST; n++) sum[n] += repeated<G>(key[n] + c) * asked;
                }
            }
            for (int n = 0; n < ABREAST; n += G) {
                at(weights + (s + n) * HEADS) = neighbours<G>(sum + n);
            }
        }
        std::fill(weights + count * HEADS, weights + up(count, ABREAST) * HEADS, NONE);
    }
    __attribute__((noinline)) void add(Lines values, Lines next, int64_t count) {
        V high = most, sum{};
        for (int64_t s = 0; s < count * HEADS; s += L) high = Larger::of(high, at(weights + s));
        high = alike<Larger, HEADS>(high);
        const V base = high == NONE ? V{} : high, keep = exponential(most - base);
        for (int64_t s = 0; s < count * HEADS; s += L) sum += at(weights + s) = exponential(at(weights + s) - base);
        whole = whole * keep + sum, most = high;
        sums_once<HEADS>(weights, 1, HEADS, values, next, count, reinterpret_cast<const float *>(&keep), brought);
    }
};

template <int HEADS>
inline void together(const Asked &asked, Room &room) {
    const int64_t tiles = up(asked.heads, HEADS) / HEADS;
    std::vector<Sharing<HEADS>> found;
    room.make(tiles * Sharing<HEADS>::NUMBERS);
    for (int64_t i = 0; i < tiles; i++) {
        found.emplace_back(room.take(Sharing<HEADS>::NUMBERS));
        for (int64_t r = 0; r < std::min<int64_t>(HEADS, asked.heads - i * HEADS); r++)
            found[i].ask(r, asked.q + (i * HEADS + r) * asked.from_query, asked.scale);
    }
    for (int64_t block = 0; block < asked.count; block += KEYS_ONCE) {
        const int64_t count = std::min<int64_t>(KEYS_ONCE, asked.count - block);
        const bool more = block + 2 * KEYS_ONCE <= asked.count;
        const Lines keys = asked.keys_from(block), values = asked.values_from(block);
        for (int64_t i = 0; i < tiles; i++) {
            found[i].score(keys, values, count);
            found[i].add(values, i == 0 && more ? asked.keys_from(block + KEYS_ONCE) : Lines{}, count);
        }
    }
    for (int64_t i = 0; i < tiles; i++) {
        const V whole = alike<Sum, HEADS>(found[i].whole);
        for (int64_t r = 0; r < std::min<int64_t>(HEADS, asked.heads - i * HEADS); r++)
            write_once(found[i].brought + r * E, whole[r], asked.out + (i * HEADS + r) * asked.from_out);
    }
}

}  // namespace

// One query for each head: what a step of decoding asks. All heads that share a key head read it together, once and where
// it lies, at the speed of memory; as many of them at a time as registers hold. Every query sees every key; heads share
// values as they share keys; C and E are whole vectors.
extern "C" int once(const X *q, const X *k, const X *v, X *out, const int64_t *numbers, float root) {
    const Call &call = call_of(numbers);
    const int64_t *q_step = step_of(numbers, 0), *k_step = step_of(numbers, 1), *v_step = step_of(numbers, 2);
    const int64_t *out_step = step_of(numbers, 3), heads = call.per_key();
    std::atomic<bool> failed{false};
    in_parts(call.models * call.batch * call.key_heads, call.threads, [&](int64_t from, int64_t to) {
        static thread_local Room room;
        try {
            for (int64_t n = from; n < to; n++) {
                const int64_t g = n % call.key_heads, b = n / call.key_heads % call.batch;
                const int64_t m = n / call.key_heads / call.batch;
                const Asked asked{head_of(q, q_step, m, b, g * heads), head_of(out, out_step, m, b, g * heads),
                                  q_step[2], out_step[2], heads, call.keys,
                                  {head_of(k, k_step, m, b, g), k_step[3]}, {head_of(v, v_step, m, b, g), v_step[3]},
                                  1 / root};
                (heads < LEAST ? one_by_one : heads == LEAST ? together<LEAST> : together<MOST>)(asked, room);
            }
        } catch (const std::bad_alloc &) {
            failed = true;
        }
    });
    return !failed;
}
#endif
