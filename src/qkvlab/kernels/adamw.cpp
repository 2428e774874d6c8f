// One step of AdamW (Loshchilov & Hutter, arXiv 1711.05101) for stacked models in fp32 on the CPU, each clipped by the norm of
// its own gradient and moved at its own rate: all matrices of all models in two passes, one for norms and one that moves.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int64_t PIECE = 1 << 14;  // numbers that a thread takes at once; each has a sum of its own, whoever takes it

struct Piece {
    int64_t matrix, model, begin, end;  // numbers of a model's matrix
};

double squares(const float *x, int64_t count) {
    constexpr int64_t RUN = 1024;  // numbers whose sum is in fp32, side by side
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += RUN) {
        float some[16] = {};
        const int64_t end = std::min(begin + RUN, count);
        int64_t i = begin;
        for (; i + 16 <= end; i += 16)
            for (int j = 0; j < 16; j++) some[j] += x[i + j] * x[i + j];
        for (; i < end; i++) some[0] += x[i] * x[i];
        for (float each : some) sum += each;
    }
    return sum;
}

}  // namespace

struct Rule {
    double beta1, beta2, eps, decay, clip, steps;  // not in fp32, where 1 - .999 has five digits
};

// `sizes` are numbers of a model's matrix, of each matrix; `rates` of each model
extern "C" void adamw(float *const *weights, const float *const *slopes, float *const *first, float *const *second,
                      const int64_t *sizes, int64_t matrices, int64_t models, const float *rates, const Rule *rule,
                      int64_t threads) {
    std::vector<Piece> pieces;
    for (int64_t i = 0; i < matrices; i++)
        for (int64_t m = 0; m < models; m++)
            for (int64_t begin = 0; begin < sizes[i]; begin += PIECE)
                pieces.push_back({i, m, begin, std::min(begin + PIECE, sizes[i])});
    std::vector<double> sums(pieces.size());
    const int64_t count = pieces.size();
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        const Piece &p = pieces[n];
        sums[n] = squares(slopes[p.matrix] + p.model * sizes[p.matrix] + p.begin, p.end - p.begin);
    }
    std::vector<double> norms(models);
    for (int64_t n = 0; n < count; n++) norms[pieces[n].model] += sums[n];
    const float whole1 = 1 - std::pow(rule->beta1, rule->steps);
    const float root2 = std::sqrt(1 - std::pow(rule->beta2, rule->steps));
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t n = 0; n < count; n++) {
        const Piece &p = pieces[n];
        const int64_t at = p.model * sizes[p.matrix];
        float *w = weights[p.matrix] + at, *u = first[p.matrix] + at, *v = second[p.matrix] + at;
        const float *g = slopes[p.matrix] + at;
        // a norm below the bound leaves gradients alone; one that is no number makes weights none
        const float share = rule->clip / (std::sqrt(norms[p.model]) + 1e-6), clip = share > 1 ? 1 : share;
        const float rate = rates[p.model], stay = 1 - rate * rule->decay, step = rate / whole1;
        const float one = 1 - rule->beta1, two = 1 - rule->beta2, keep = rule->beta2, eps = rule->eps;
#pragma GCC ivdep
        for (int64_t i = p.begin; i < p.end; i++) {
            const float slope = g[i] * clip;
            u[i] += one * (slope - u[i]);
            v[i] = keep * v[i] + two * slope * slope;
            w[i] = w[i] * stay - step * u[i] / (std::sqrt(v[i]) / root2 + eps);
        }
    }
}
