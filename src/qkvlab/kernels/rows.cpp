// A few rows times a matrix, in fp32 on the CPU: what a step of decoding multiplies. The matrix is read once, in the order
// in which it lies: panels of COLUMNS columns, of which each of the `depth` rows stands behind the one before.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace {

constexpr int VECTORS = 3, COLUMNS = VECTORS * L;  // of a panel's row
constexpr int64_t DEPTH = 128;  // products of a sum that stands alone, as errors grow with their number

// ROWS rows of x times a panel, of which `wide` columns are written
template <int ROWS>
void panel_times(const float *x, int64_t depth, const float *panel, float *to, int64_t stride, int64_t wide) {
    V sum[ROWS][VECTORS] = {};
    for (int64_t begin = 0; begin < depth; begin += DEPTH) {
        V some[ROWS][VECTORS] = {};
        for (int64_t k = begin; k < std::min(begin + DEPTH, depth); k++) {
            V row[VECTORS];
            std::memcpy(row, panel + k * COLUMNS, sizeof row);
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < VECTORS; v++) some[r][v] += x[r * depth + k] * row[v];
        }
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++) sum[r][v] += some[r][v];
    }
    for (int r = 0; r < ROWS; r++) std::memcpy(to + r * stride, sum[r], wide * sizeof(float));
}

}  // namespace

extern "C" int columns() { return COLUMNS; }

// x (rows, depth) times a matrix (depth, columns) to (rows, columns)
extern "C" void times(const float *x, const float *panels, float *to, int64_t rows, int64_t depth, int64_t columns,
                      int64_t threads) {
    const int64_t count = (columns + COLUMNS - 1) / COLUMNS;
    in_parts(count, threads, [&](int64_t from, int64_t end) {
        for (int64_t p = from; p < end; p++) {
            const float *panel = panels + p * depth * COLUMNS;
            const int64_t wide = std::min<int64_t>(COLUMNS, columns - p * COLUMNS);
            const auto some = [&](auto times, int64_t r) {
                times(x + r * depth, depth, panel, to + r * columns + p * COLUMNS, columns, wide);
            };
            int64_t r = 0;
            for (; r + R <= rows; r += R) some(panel_times<R>, r);
            for (; r + R / 2 <= rows; r += R / 2) some(panel_times<R / 2>, r);
            for (; r < rows; r++) some(panel_times<1>, r);
        }
    });
}
