// Rows of coordinates in memory, and memory itself.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "vector.h"

namespace {

inline void load_row(vec (&to)[V], const float *row, long count) {
  if (count == TILE) {
    std::memcpy(&to, row, sizeof to);
  } else {
    std::memset(&to, 0, sizeof to);
    std::memcpy(&to, row, count * sizeof(float));
  }
}

inline void store_row(float *row, const vec (&from)[V], long count) {
  if (count == TILE)
    std::memcpy(row, &from, sizeof from);
  else
    std::memcpy(row, &from, count * sizeof(float));
}

// As store_row, past the caches where the row lies so that whole cache lines are written.
inline void stream_row(float *row, const vec (&from)[V], long count) {
#if defined(__AVX512F__)
  if (count == TILE && reinterpret_cast<uintptr_t>(row) % sizeof(vec) == 0) {
    for (int v = 0; v < V; v++) _mm512_stream_ps(row + v * WIDTH, from[v]);
    return;
  }
#endif
  store_row(row, from, count);
}

inline void finish_streams() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

// Asks for large pages where memory is written for the first time: page faults of 4 kB would take
// longer than the step.
inline void ask_for_large_pages(void *memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t PAGE = 4096;
  const uintptr_t from = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (from + PAGE - 1) / PAGE * PAGE, last = (from + bytes) / PAGE * PAGE;
  if (first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Memory for `n` values on cache lines, not initialised.
template <class T>
std::unique_ptr<T, void (*)(void *)> aligned(size_t n = 1) {
  void *memory = std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64);
  if (!memory) throw std::bad_alloc();
  return {static_cast<T *>(memory), std::free};
}

}  // namespace
