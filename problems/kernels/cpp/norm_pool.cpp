// Batch normalization, 2×2 max pooling and ReLU, fused, and their gradient.
//
// The larger of two normalised values is that of the larger z where γ > 0, and of the smaller z
// where γ < 0. So forward reads z once: it takes the statistics and, in each window of the pooling,
// the extreme z and its place; what is normalised are the extremes. Backward needs no more of the
// windows for the sums behind γ and β, and then turns z into its gradient in place.
//
// Layouts, channels last: z [N][H][W][C]; with h = H/2 and w = W/2, rounded down: extremes, outputs
// and places [N][h][w][C]. A place is 0 to 3 in the order of rows, plus CLOSED where ReLU gives 0.
// What pooling leaves over of odd H or W counts in the statistics only.
//
// Sums are taken for each image, and these are added in order: results do not depend on threads.

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace {

// Channels that are worked on at once. Of wider vectors than the processor's, gcc takes each lane
// by itself.
#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int CLOSED = 4;

typedef float vec __attribute__((vector_size(WIDTH * 4)));
typedef int32_t ivec __attribute__((vector_size(WIDTH * 4)));
typedef double dvec __attribute__((vector_size(WIDTH * 8)));
typedef uint8_t bytes __attribute__((vector_size(WIDTH)));

inline dvec widened(vec x) { return __builtin_convertvector(x, dvec); }

// Up to WIDTH channels; FULL has the compiler know that there are so many.
template <bool FULL>
struct Lanes {
  long count;

  template <class Vector, class T>
  Vector load(const T *from) const {
    Vector x{};
    std::memcpy(&x, from, FULL ? sizeof x : count * sizeof(T));
    return x;
  }
  template <class Vector, class T>
  void store(T *to, Vector x) const {
    std::memcpy(to, &x, FULL ? sizeof x : count * sizeof(T));
  }
  vec floats(const float *from) const { return load<vec>(from); }
  ivec places(const uint8_t *from) const {
    const bytes x = load<bytes>(from);
    // gcc's own conversion would take each lane by itself.
#if defined(__AVX512F__)
    return (ivec)_mm512_cvtepu8_epi32((__m128i)x);
#elif defined(__AVX2__)
    return (ivec)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)x));
#else
    return __builtin_convertvector(x, ivec);
#endif
  }
  void store_places(uint8_t *to, ivec x) const { store(to, __builtin_convertvector(x, bytes)); }
};

struct Sizes {
  long N, H, W, C;

  long image() const { return H * W * C; }
  long pooled() const { return (H / 2) * (W / 2) * C; }
  double values() const { return double(N) * H * W; }  // of a channel
};

// Means as floats, and what these leave over: without it, normalised values would have an error of
// the mean's rounding.
struct Means {
  vec middle, rest;

  template <class L>
  Means(const double *mean, L lanes) {
    const dvec exact = lanes.template load<dvec>(mean);
    middle = __builtin_convertvector(exact, vec);
    rest = __builtin_convertvector(exact - widened(middle), vec);
  }
};

// Calls work(image, channel, lanes) for WIDTH channels at a time.
template <class Work>
void for_each_group(const Sizes &s, int threads, Work work) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (long n = 0; n < s.N; n++) {
    long c = 0;
    for (; c + WIDTH <= s.C; c += WIDTH) work(n, c, Lanes<true>{WIDTH});
    if (c < s.C) work(n, c, Lanes<false>{s.C - c});
  }
}

// Two sums of each image and channel [N][2][C], and their totals over images.
struct Sums {
  double *each;
  const Sizes &s;

  template <class L>
  void set(long n, long c, L lanes, dvec first, dvec second) const {
    lanes.store(each + 2 * n * s.C + c, first);
    lanes.store(each + (2 * n + 1) * s.C + c, second);
  }
  double total(int which, long c) const {
    double sum = 0;
    for (long n = 0; n < s.N; n++) sum += each[(2 * n + which) * s.C + c];
    return sum;
  }
};

// Sums of the distances from `mean` and of their squares.
struct Distances {
  vec sums[4] = {}, squares[4] = {};

  template <class L>
  void add_row(const float *row, long count, long C, vec mean, L lanes) {
    auto add = [&](long x, int to) {
      const vec d = lanes.floats(row + x * C) - mean;
      sums[to] += d;
      squares[to] += d * d;
    };
    long x = 0;
    for (; x + 3 < count; x += 4)
      for (int k = 0; k < 4; k++) add(x + k, k);
    for (; x < count; x++) add(x, 0);
  }
  static dvec total(const vec (&x)[4]) { return widened((x[0] + x[1]) + (x[2] + x[3])); }
};

// What follows is done for one image and some of its channels, whose first values are pointed to.

// Extremes, places, and the sums of z and z². Two rows at a time, which stay in the innermost cache,
// are first summed and then compared with about their own mean: so nothing is lost where the mean is
// large beside the deviation.
template <class L>
void take_extremes(Sizes s, const float *z, vec sign, float *extreme, uint8_t *place, L lanes,
                   dvec &sum, dvec &square) {
  const long C = s.C, row = s.W * C;
  for (long y = 0; y < s.H; y += 2, z += 2 * row) {
    const bool pooled = y + 1 < s.H;
    vec total{};
    long x = 0;
    for (; pooled && x + 1 < s.W; x += 2, extreme += C, place += C) {
      const float *corner = z + x * C;
      const vec values[4] = {lanes.floats(corner), lanes.floats(corner + C),
                             lanes.floats(corner + row), lanes.floats(corner + row + C)};
      vec chosen = values[0], largest = sign * chosen;
      ivec at{};
      for (int k = 1; k < 4; k++) {
        const vec signed_value = sign * values[k];
        const ivec larger = signed_value > largest;
        largest = larger ? signed_value : largest;
        chosen = larger ? values[k] : chosen;
        at = larger ? k - ivec{} : at;
      }
      total += (values[0] + values[1]) + (values[2] + values[3]);
      lanes.store(extreme, chosen);
      lanes.store_places(place, at);
    }
    for (; x < s.W; x++) {
      total += lanes.floats(z + x * C);
      if (pooled) total += lanes.floats(z + row + x * C);
    }
    const double count = pooled ? 2 * s.W : s.W;
    const vec about = total / float(count);
    Distances distances;
    distances.add_row(z, s.W, C, about, lanes);
    if (pooled) distances.add_row(z + row, s.W, C, about, lanes);
    const dvec d = Distances::total(distances.sums), middle = widened(about);
    sum += count * middle + d;
    square += Distances::total(distances.squares) + middle * (count * middle + 2 * d);
  }
}

// Outputs, and CLOSED in their places.
template <class L>
void normalise(Sizes s, const float *extreme, vec factor, Means means, vec offset, float *out,
               uint8_t *place, L lanes) {
  offset -= factor * means.rest;
  for (long i = 0; i < s.pooled(); i += s.C) {
    const vec value = factor * (lanes.floats(extreme + i) - means.middle) + offset;
    const ivec closed = value <= 0;  // NaN is not, and goes on
    lanes.store(out + i, closed ? vec{} : value);
    lanes.store_places(place + i, lanes.places(place + i) | (closed & CLOSED));
  }
}

// The sums of the gradient after normalization, and of its product with z less its mean.
template <class L>
void sum_gradient(Sizes s, const float *extreme, const uint8_t *place, const float *d_out,
                  Means means, L lanes, dvec &sum, dvec &product) {
  const long row = s.W / 2 * s.C;
  for (long first = 0; first < s.pooled(); first += row) {
    vec row_sum{}, row_product{};
    for (long i = first; i < first + row; i += s.C) {
      const vec d = lanes.places(place + i) < CLOSED ? lanes.floats(d_out + i) : vec{};
      row_sum += d;
      row_product += d * (lanes.floats(extreme + i) - means.middle);
    }
    sum += widened(row_sum);
    product += widened(row_product - row_sum * means.rest);
  }
}

// From z to its gradient: `factor` times that after normalization, less a linear function of z.
template <class L>
void replace_by_gradient(Sizes s, float *z, const uint8_t *place, const float *d_out, vec factor,
                         Means means, vec constant, vec slope, L lanes) {
  const long C = s.C, row = s.W * C;
  constant -= slope * means.rest;
  auto replace = [=](float *at, vec lead) {
    lanes.store(at, (lead - constant) - slope * (lanes.floats(at) - means.middle));
  };
  for (long y = 0; y < s.H; y += 2, z += 2 * row) {
    const bool pooled = y + 1 < s.H;
    long x = 0;
    for (; pooled && x + 1 < s.W; x += 2, place += C, d_out += C) {
      const ivec at = lanes.places(place);
      const vec d = factor * lanes.floats(d_out);
      float *corner = z + x * C;
      replace(corner, at == 0 ? d : vec{});
      replace(corner + C, at == 1 ? d : vec{});
      replace(corner + row, at == 2 ? d : vec{});
      replace(corner + row + C, at == 3 ? d : vec{});
    }
    for (; x < s.W; x++) {
      replace(z + x * C, vec{});
      if (pooled) replace(z + row + x * C, vec{});
    }
  }
}

}  // namespace

extern "C" {

// Also gives the statistics [C] of z, and takes `sums` [N][2][C] as memory to work in.
void norm_pool_forward(const float *z, const float *gamma, const float *beta, float *extreme,
                       uint8_t *place, float *out, double *sums, double *mean, float *inverse_std,
                       double eps, long N, long H, long W, long C, int threads) {
  const Sizes s{N, H, W, C};
  const Sums partial{sums, s};
  for_each_group(s, threads, [&](long n, long c, auto lanes) {
    const vec factor = lanes.floats(gamma + c);
    // Where γ = 0 all are alike, and the first is chosen.
    const vec sign = factor > 0 ? 1 - vec{} : factor < 0 ? -1 - vec{} : vec{};
    const long at = n * s.pooled() + c;
    dvec sum{}, square{};
    take_extremes(s, z + n * s.image() + c, sign, extreme + at, place + at, lanes, sum, square);
    partial.set(n, c, lanes, sum, square);
  });
  for (long c = 0; c < C; c++) {
    mean[c] = partial.total(0, c) / s.values();
    const double variance = partial.total(1, c) / s.values() - mean[c] * mean[c];
    inverse_std[c] = 1 / std::sqrt((variance < 0 ? 0 : variance) + eps);
  }
  for_each_group(s, threads, [&](long n, long c, auto lanes) {
    const vec factor = lanes.floats(gamma + c) * lanes.floats(inverse_std + c);
    const long at = n * s.pooled() + c;
    normalise(s, extreme + at, factor, Means(mean + c, lanes), lanes.floats(beta + c), out + at,
              place + at, lanes);
  });
}

// The gradient of z takes its place. `sums` [N][2][C] is memory to work in.
void norm_pool_backward(float *z, const float *gamma, const float *extreme, const uint8_t *place,
                        const double *mean, const float *inverse_std, const float *d_out,
                        double *sums, float *d_gamma, float *d_beta, long N, long H, long W, long C,
                        int threads) {
  const Sizes s{N, H, W, C};
  const Sums partial{sums, s};
  for_each_group(s, threads, [&](long n, long c, auto lanes) {
    const long at = n * s.pooled() + c;
    dvec sum{}, product{};
    sum_gradient(s, extreme + at, place + at, d_out + at, Means(mean + c, lanes), lanes, sum,
                 product);
    partial.set(n, c, lanes, sum, product);
  });
  for (long c = 0; c < C; c++) {
    d_beta[c] = partial.total(0, c);
    d_gamma[c] = partial.total(1, c) * inverse_std[c];
  }
  for_each_group(s, threads, [&](long n, long c, auto lanes) {
    const vec inverse = lanes.floats(inverse_std + c), factor = lanes.floats(gamma + c) * inverse;
    const vec share = factor / float(s.values());
    const long at = n * s.pooled() + c;
    replace_by_gradient(s, z + n * s.image() + c, place + at, d_out + at, factor,
                        Means(mean + c, lanes), share * lanes.floats(d_beta + c),
                        share * lanes.floats(d_gamma + c) * inverse, lanes);
  });
}
}
