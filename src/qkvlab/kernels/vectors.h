// What the kernels share: vectors as long as registers are, and work that is done in parts, a thread each.

#include <algorithm>
#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

// numbers of a vector, as long as registers are: longer ones are split badly; and rows that share what is read: so many
// sums are under way at once that none waits for the one before, and no more than there are registers
#ifdef __AVX512F__
constexpr int L = 16, R = 8;
#else
constexpr int L = 8, R = 4;
#endif

typedef float V __attribute__((vector_size(4 * L)));
typedef int32_t I __attribute__((vector_size(4 * L)));

// calls work(begin, end) for parts of 0 to `count`, a thread each
template <class Work>
void in_parts(int64_t count, int64_t threads, Work work) {
#ifdef _OPENMP
    threads = std::max<int64_t>(1, std::min(threads, count));
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            const int64_t n = omp_get_num_threads(), i = omp_get_thread_num();
            work(count * i / n, count * (i + 1) / n);
        }
        return;
    }
#endif
    work(0, count);
}

}  // namespace
