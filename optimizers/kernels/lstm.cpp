// The coordinatewise LSTM of section 3, fused over layers, hidden units and time.
//
// Coordinates are vector lanes; a tile of TILE coordinates goes through the network at once and
// stays in the cache. Backward keeps nothing from forward: it recomputes a tile through all steps
// of the window, goes back through them, and adds to the weight gradient.
//
// Compile-time: LAYERS, HIDDEN, INPUTS (features of one coordinate). Features are given, or computed
// here from gradients: with two of them by Appendix A, with one by a constant factor.
//
// Layouts, row-major, K coordinates contiguous, a row of the state K floats or longer:
//   features [T][INPUTS][K]   state [LAYERS][h, c][HIDDEN][row]   updates, gradients [T][K]
//   weights  per layer: W [4·HIDDEN][below + HIDDEN], b [4·HIDDEN], gates in the order i, f, g, o;
//            then the output layer: w [HIDDEN], b [1].

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include <omp.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__AVX512F__)
#define WIDTH 16
#define VECTORS 1
#elif defined(__AVX__)
#define WIDTH 8
#define VECTORS 1
#else
#define WIDTH 4
#define VECTORS 2
#endif

namespace {

typedef float vec __attribute__((vector_size(WIDTH * 4)));
typedef int32_t ivec __attribute__((vector_size(WIDTH * 4)));

constexpr int L = LAYERS, H = HIDDEN, F = INPUTS, V = VECTORS;
constexpr int TILE = WIDTH * V;
constexpr int G = 4 * H;
constexpr int STATE = 2 * L * H;  // rows of the state
// Lengths of work are fixed by K alone, so sums do not depend on the number of threads.
constexpr long CHUNK = 512;
constexpr long MAX_CHUNKS = 512;
// A next state of more bytes is written past the caches: it would not be there when it is read.
constexpr size_t STREAMED = 8 << 20;

constexpr int below(int l) { return l == 0 ? F : H; }
constexpr int fan_in(int l) { return below(l) + H; }
constexpr int layer_offset(int l) {
  int offset = 0;
  for (int k = 0; k < l; k++) offset += G * fan_in(k) + G;
  return offset;
}
constexpr int OUTPUT = layer_offset(L);
constexpr int WEIGHTS = OUTPUT + H + 1;

inline vec splat(float x) { return x - vec{}; }

// t = n + r with n an integer and |r| <= 1/2; and x·2^n.
#if defined(__AVX512DQ__)
inline void split(vec t, vec &n, vec &r) {
  n = _mm512_roundscale_ps(t, 0);
  r = _mm512_reduce_ps(t, 0);  // 0 for an infinite t
}
inline vec scale(vec x, vec n) { return _mm512_scalef_ps(x, n); }
#else
inline void split(vec t, vec &n, vec &r) {
  t = t < -126.f ? splat(-126.f) : t;
  t = t > 127.f ? splat(127.f) : t;
  const vec magic = splat(12582912.f);  // 1.5 * 2^23 rounds to an integer when added
  n = (t + magic) - magic;
  r = t - n;
}
inline vec scale(vec x, vec n) {
  ivec bits = (__builtin_convertvector(n, ivec) + 127) << 23;
  vec power;
  std::memcpy(&power, &bits, sizeof power);
  // Exactly 0 below: what is left there would count beside inputs of 1e30 in the gradient.
  return n < -125.f ? vec{} : x * power;
}
#endif

// 2^r - 1 for |r| <= 1/2, with relative error below 2e-8: minimax coefficients of (2^r - 1) / r.
inline vec exp2m1_part(vec r) {
  vec p = splat(0.000154035124f);
  p = p * r + 0.00133907356f;
  p = p * r + 0.0096182375f;
  p = p * r + 0.0555035743f;
  p = p * r + 0.240226498f;
  p = p * r + 0.693147188f;
  return p * r;
}

// The forward weights hold the factor of each gate's exponent, so these take powers of 2.
constexpr float LOG2E = 1.442695040888963f;
constexpr float SIGMOID = -LOG2E, TANH = 2 * LOG2E;

// 1 + 2^t, so the logistic function of x is 1 / this(SIGMOID·x).
inline vec one_plus_exp2(vec t) {
  vec n, r;
  split(t, n, r);
  return 1.f + scale(1.f + exp2m1_part(r), n);
}

// 2^t - 1, so tanh(x) is this(TANH·x) / (this + 2); small x keep their relative precision.
inline vec exp2m1(vec t) {
  vec n, r;
  split(t < 64.f ? t : splat(64.f), n, r);
  vec power = scale(splat(1.f), n);
  return power * exp2m1_part(r) + (power - 1.f);
}

// log x for x > 0, with relative error below 2e-7; -inf for 0 and NaN for NaN.
inline vec logarithm(vec x) {
  constexpr float TINY = 1.17549435e-38f;  // below it numbers have no leading bit
  const vec normal = x < TINY ? x * 16777216.f : x;
  ivec bits;
  std::memcpy(&bits, &normal, sizeof bits);
  // x = 2^n m with sqrt(1/2) <= m < sqrt(2), and log m = 2 artanh((m - 1) / (m + 1)).
  const ivec n = (bits - 0x3f3504f3) >> 23;
  bits -= n << 23;
  vec m;
  std::memcpy(&m, &bits, sizeof m);
  const vec s = (m - 1.f) / (m + 1.f), z = s * s;
  vec q = splat(0.2222222222f);
  q = q * z + 0.2857142857f;
  q = q * z + 0.4f;
  q = q * z + 0.6666666667f;
  const vec log_m = s * (2.f + z * q);
  vec power = __builtin_convertvector(n, vec);
  power = x < TINY ? power - 24.f : power;
  const vec result = power * 0.693147181f + log_m;
  return x > 0.f ? result : x == 0.f ? splat(-std::numeric_limits<float>::infinity()) : x;
}

// From gradients to the network's inputs.
class Preprocessing {
 public:
  Preprocessing(float p, float factor)
      : scale_(1.f / p), threshold_(static_cast<float>(std::exp(-static_cast<double>(p)))),
        inverse_(1.f / threshold_), factor_(factor) {}

  void operator()(const vec (&gradient)[V], vec (&x)[F][V]) const {
    for (int v = 0; v < V; v++) {
      const vec g = gradient[v];
      if constexpr (F == 1) {
        x[0][v] = factor_ * g;
      } else {
        constexpr float LARGEST = std::numeric_limits<float>::max();
        const vec finite = g > LARGEST ? splat(LARGEST) : g < -LARGEST ? splat(-LARGEST) : g;
        const vec size = finite < 0.f ? -finite : finite;
        const vec log = logarithm(size) * scale_;
        const vec sign = finite < 0.f ? splat(-1.f) : splat(1.f);
        x[0][v] = log < -1.f ? splat(-1.f) : log;
        x[1][v] = size >= threshold_ ? sign : finite * inverse_;
      }
    }
  }

 private:
  float scale_, threshold_, inverse_, factor_;
};

// Weights in the order in which the loops read them.
struct Packed {
  // Forward, per layer and hidden unit: [input][gate], so four accumulators of one unit stay
  // together; `bias` likewise [unit][gate]. Both times SIGMOID or TANH.
  float forward[L][H][F > H ? F + H : H + H][4];
  float bias[L][H][4];
  // Transposed, for the gradient of the inputs: [input][unit][gate].
  float backward[L][F > H ? F + H : H + H][H][4];
  float output[H];
  float output_bias;

  explicit Packed(const float *weights) {
    for (int l = 0; l < L; l++) {
      const float *W = weights + layer_offset(l);
      const float *b = W + G * fan_in(l);
      for (int u = 0; u < H; u++)
        for (int g = 0; g < 4; g++) {
          const float factor = g == 2 ? TANH : SIGMOID;
          bias[l][u][g] = factor * b[g * H + u];
          for (int k = 0; k < fan_in(l); k++) {
            float w = W[(g * H + u) * fan_in(l) + k];
            forward[l][u][k][g] = factor * w;
            backward[l][k][u][g] = w;
          }
        }
    }
    std::memcpy(output, weights + OUTPUT, sizeof output);
    output_bias = weights[OUTPUT + H];
  }
};

// One tile at one time step, as backward needs it.
struct Step {
  vec features[F][V];
  vec gates[L][H][4][V];  // after the nonlinearity; overwritten by their gradients
  vec tanh_c[L][H][V];
  vec c[L][H][V];
  vec h[L][H][V];
};

struct State {
  vec h[L][H][V];
  vec c[L][H][V];
};

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

inline long state_row(int l, int part, int u) { return (2 * l + part) * H + u; }

void load_state(State &state, const float *source, long row, long first, long count) {
  for (int l = 0; l < L; l++)
    for (int u = 0; u < H; u++) {
      load_row(state.h[l][u], source + state_row(l, 0, u) * row + first, count);
      load_row(state.c[l][u], source + state_row(l, 1, u) * row + first, count);
    }
}

void store_state(float *target, const State &state, long row, long first, long count) {
  for (int l = 0; l < L; l++)
    for (int u = 0; u < H; u++) {
      store_row(target + state_row(l, 0, u) * row + first, state.h[l][u], count);
      store_row(target + state_row(l, 1, u) * row + first, state.c[l][u], count);
    }
}

// UNITS hidden units' pre-activations, four gates each.
template <int UNITS, int N>
inline void accumulate(vec (&sum)[UNITS][4][V], const float (*weights)[N][4], const vec (*x)[V],
                       int from, int count) {
  for (int k = 0; k < count; k++)
#pragma GCC unroll 8
    for (int u = 0; u < UNITS; u++)
#pragma GCC unroll 4
      for (int g = 0; g < 4; g++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) sum[u][g][v] += weights[u][from + k][g] * x[k][v];
}

template <bool KEEP, int UNITS>
inline void units_forward(const Packed &w, int l, int u0, const vec (*x)[V], const vec (*h_prev)[V],
                          const vec (*c_prev)[V], vec (*h)[V], vec (*c)[V], Step *kept) {
  vec sum[UNITS][4][V];
#pragma GCC unroll 8
  for (int u = 0; u < UNITS; u++)
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++)
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sum[u][g][v] = splat(w.bias[l][u0 + u][g]);
  accumulate<UNITS>(sum, &w.forward[l][u0], x, 0, below(l));
  accumulate<UNITS>(sum, &w.forward[l][u0], h_prev, below(l), H);
#pragma GCC unroll 8
  for (int u = 0; u < UNITS; u++)
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) {
      // σ(i) = 1 / i, tanh(g) = g / (g + 2), and so on.
      vec i = one_plus_exp2(sum[u][0][v]), f = one_plus_exp2(sum[u][1][v]);
      vec g = exp2m1(sum[u][2][v]), o = one_plus_exp2(sum[u][3][v]);
      if (KEEP) {
        i = 1.f / i, f = 1.f / f, g = g / (g + 2.f), o = 1.f / o;
        vec cell = f * c_prev[u0 + u][v] + i * g;
        vec e = exp2m1(TANH * cell);
        vec tc = e / (e + 2.f);
        c[u0 + u][v] = cell;
        h[u0 + u][v] = o * tc;
        kept->gates[l][u0 + u][0][v] = i;
        kept->gates[l][u0 + u][1][v] = f;
        kept->gates[l][u0 + u][2][v] = g;
        kept->gates[l][u0 + u][3][v] = o;
        kept->tanh_c[l][u0 + u][v] = tc;
      } else {
        // The same with three divisions in place of five.
        vec cell = c_prev[u0 + u][v] / f + g / ((g + 2.f) * i);
        vec e = exp2m1(TANH * cell);
        c[u0 + u][v] = cell;
        h[u0 + u][v] = e / ((e + 2.f) * o);
      }
    }
}

// One step of the network on one tile; h and c may not alias the previous ones. `done(l, u)` is
// called when those of unit u are there.
template <bool KEEP, class Done>
inline void step_forward(const Packed &w, const vec (*features)[V], const vec (*h_prev)[H][V],
                         const vec (*c_prev)[H][V], vec (*h)[H][V], vec (*c)[H][V], Step *kept,
                         Done done) {
  // Each sum waits for its last addition, so there must be enough of them side by side, and no more
  // than the registers hold.
  constexpr int UNITS = KEEP && WIDTH == 16 && H % 4 == 0 ? 4 : H % 2 == 0 ? 2 : 1;
  for (int l = 0; l < L; l++) {
    const vec(*x)[V] = l == 0 ? features : h[l - 1];
    for (int u = 0; u < H; u += UNITS) {
      units_forward<KEEP, UNITS>(w, l, u, x, h_prev[l], c_prev[l], h[l], c[l], kept);
      for (int own = u; own < u + UNITS; own++) done(l, own);
    }
  }
}

inline void output(const Packed &w, const vec (*h)[V], vec (&update)[V]) {
  for (int v = 0; v < V; v++) update[v] = splat(w.output_bias);
  for (int u = 0; u < H; u++)
    for (int v = 0; v < V; v++) update[v] += w.output[u] * h[u][v];
}

// ROWS inputs' gradients: Wᵀ times the gates' gradients.
template <int ROWS>
inline void inputs_backward(const float (*weights)[H][4], const vec (*gates)[4][V], vec (*dx)[V]) {
  vec sum[ROWS][V];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < V; v++) sum[r][v] = dx[r][v];
  for (int u = 0; u < H; u++)
    for (int g = 0; g < 4; g++)
#pragma GCC unroll 10
      for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) sum[r][v] += weights[r][u][g] * gates[u][g][v];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < V; v++) dx[r][v] = sum[r][v];
}

inline void all_inputs_backward(const float (*weights)[H][4], const vec (*gates)[4][V],
                                vec (*dx)[V], int rows) {
  int r = 0;
  for (; r + 10 <= rows; r += 10) inputs_backward<10>(weights + r, gates, dx + r);
  for (; r + 4 <= rows; r += 4) inputs_backward<4>(weights + r, gates, dx + r);
  for (; r < rows; r++) inputs_backward<1>(weights + r, gates, dx + r);
}

// Sums of the weight gradient stay vectors until the end of a chunk, of four lanes so as to be small.
typedef float quad __attribute__((vector_size(16)));

inline quad fold(vec x) {
  quad parts[WIDTH / 4];
  std::memcpy(parts, &x, sizeof x);
  quad sum = parts[0];
  for (int i = 1; i < WIDTH / 4; i++) sum += parts[i];
  return sum;
}

struct Gradient {
  quad weights[H * 4 * (F + H + (L - 1) * 2 * H)];
  vec bias[L][H][4];
  vec output[H];
  vec output_bias;

  // [input][gate] of a unit.
  quad (*weight(int l, int u))[4] {
    const int before = l == 0 ? 0 : H * (F + H + (l - 1) * 2 * H);
    return reinterpret_cast<quad(*)[4]>(weights) + before + u * fan_in(l);
  }

  // Adds the sums over lanes to `to`, ordered as the weights are.
  void add_to(double *to) {
    auto total = [](const auto &lanes) {
      float sum = 0;
      for (size_t i = 0; i < sizeof lanes / sizeof(float); i++) sum += lanes[i];
      return sum;
    };
    for (int l = 0; l < L; l++)
      for (int u = 0; u < H; u++)
        for (int g = 0; g < 4; g++) {
          double *row = to + layer_offset(l) + (g * H + u) * fan_in(l);
          for (int k = 0; k < fan_in(l); k++) row[k] += total(weight(l, u)[k][g]);
          to[layer_offset(l) + G * fan_in(l) + g * H + u] += total(bias[l][u][g]);
        }
    for (int u = 0; u < H; u++) to[OUTPUT + u] += total(output[u]);
    to[OUTPUT + H] += total(output_bias);
  }
};

// Σ_t gate gradients × inputs for one unit and COLUMNS inputs; `stride` steps between times.
template <int COLUMNS>
inline void weight_backward(quad (*into)[4], const char *gates, const char *x, size_t stride, long T) {
  vec sum[COLUMNS][4] = {};
  for (long t = 0; t < T; t++, gates += stride, x += stride) {
    auto dg = reinterpret_cast<const vec(*)[V]>(gates);
    auto xs = reinterpret_cast<const vec(*)[V]>(x);
#pragma GCC unroll 2
    for (int v = 0; v < V; v++)
#pragma GCC unroll 5
      for (int k = 0; k < COLUMNS; k++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) sum[k][g] += dg[g][v] * xs[k][v];
  }
  for (int k = 0; k < COLUMNS; k++)
    for (int g = 0; g < 4; g++) into[k][g] += fold(sum[k][g]);
}

inline void all_weights_backward(quad (*into)[4], const void *gates, const vec (*x)[V], long T,
                                 int columns) {
  auto dg = static_cast<const char *>(gates);
  auto at = [&](int k) { return reinterpret_cast<const char *>(x + k); };
  int k = 0;
  for (; k + 5 <= columns; k += 5) weight_backward<5>(into + k, dg, at(k), sizeof(Step), T);
  for (; k + 2 <= columns; k += 2) weight_backward<2>(into + k, dg, at(k), sizeof(Step), T);
  for (; k < columns; k++) weight_backward<1>(into + k, dg, at(k), sizeof(Step), T);
}

// Backward goes tile by tile; what a tile reads and writes is its window's business. `first` and
// `count` are its lanes.

// A window whose features and cotangents are given; d_last, d_features and d_state may be null.
struct GivenWindow {
  const float *features, *state, *d_updates, *d_last;
  float *d_features, *d_state;
  long K, T, row;  // a row of `state`; those of its gradients have K floats

  long lanes() const { return K; }

  struct Tile {
    const GivenWindow &window;
    const long first, count;

    void before(State &state) const { load_state(state, window.state, window.row, first, count); }

    void features(long t, vec (&x)[F][V]) const {
      for (int k = 0; k < F; k++)
        load_row(x[k], window.features + (t * F + k) * window.K + first, count);
    }

    void end(State &d) const {
      d = {};
      if (window.d_last) load_state(d, window.d_last, window.K, first, count);
    }

    void cotangent(long t, vec (&lambda)[V]) const {
      load_row(lambda, window.d_updates + t * window.K + first, count);
    }

    bool wants_features() const { return window.d_features; }

    void of_features(long t, const vec (&dx)[F][V]) const {
      for (int k = 0; k < F; k++)
        store_row(window.d_features + (t * F + k) * window.K + first, dx[k], count);
    }

    void of_state(const State &d) const {
      if (window.d_state) store_state(window.d_state, d, window.K, first, count);
    }
  };

  Tile tile(long first, long count) const { return {*this, first, count}; }
};

// A window of an optimizee's gradients, for the gradient of weighted losses with the gradients taken
// as constants: they are the network's inputs, and the cotangents are sums of them.
struct LossWindow {
  const float *const *grads;  // T + 1 of them, [K] each
  const float *state;
  const float *loss_weights;  // of each loss after the first, and each run [T][K / width]
  long width;                 // coordinates of a run
  float discount, scale;      // of a loss for each step that it is later, and of updates
  const Preprocessing &preprocessing;
  long K, T, row;
  // Coordinates with a cotangent that is not zero. Others add nothing: on MNIST, pixels that stay
  // black in all minibatches of the window.
  std::vector<uint32_t> active;

  void find_active() {
    std::vector<unsigned char> moves(K);
    for (long t = 1; t <= T; t++)
      for (long k = 0; k < K; k++) moves[k] |= grads[t][k] != 0.f;
    active.reserve(std::count(moves.begin(), moves.end(), 1));
    for (long k = 0; k < K; k++)
      if (moves[k]) active.push_back(static_cast<uint32_t>(k));
  }

  long lanes() const { return static_cast<long>(active.size()); }

  struct Tile {
    const LossWindow &window;
    const long count;
    const uint32_t *const own;
    uint32_t run[TILE];
    vec sum[V] = {};

    Tile(const LossWindow &window, long first, long count)
        : window(window), count(count), own(window.active.data() + first) {
      for (long i = 0; i < count; i++) run[i] = own[i] / static_cast<uint32_t>(window.width);
    }

    // Of each lane a float of memory.
    void gather(vec (&to)[V], const float *row, const uint32_t *at) const {
      float lanes[TILE] = {};
      for (long i = 0; i < count; i++) lanes[i] = row[at[i]];
      std::memcpy(&to, lanes, sizeof to);
    }

    void before(State &state) const {
      for (int l = 0; l < L; l++)
        for (int u = 0; u < H; u++) {
          gather(state.h[l][u], window.state + state_row(l, 0, u) * window.row, own);
          gather(state.c[l][u], window.state + state_row(l, 1, u) * window.row, own);
        }
    }

    void features(long t, vec (&x)[F][V]) const {
      vec gradient[V];
      gather(gradient, window.grads[t], own);
      window.preprocessing(gradient, x);
    }

    void end(State &d) const { d = {}; }

    // To be called from the last step to the first.
    void cotangent(long t, vec (&lambda)[V]) {
      vec gradient[V], weight[V];
      gather(gradient, window.grads[t + 1], own);
      gather(weight, window.loss_weights + t * (window.K / window.width), run);
      for (int v = 0; v < V; v++) {
        sum[v] = gradient[v] * weight[v] + window.discount * sum[v];
        lambda[v] = window.scale * sum[v];
      }
    }

    bool wants_features() const { return false; }
    void of_features(long, const vec (&)[F][V]) const {}
    void of_state(const State &) const {}
  };

  Tile tile(long first, long count) const { return {*this, first, count}; }
};

// steps[0] holds the state before the window (h and c only); steps[1 + t] is time t.
template <class Tile>
void tile_backward(const Packed &w, Step *steps, Tile tile, long T, Gradient &grad) {
  State state;
  tile.before(state);
  std::memcpy(steps->h, state.h, sizeof state.h);
  std::memcpy(steps->c, state.c, sizeof state.c);
  for (long t = 0; t < T; t++) {
    Step &now = steps[1 + t], &before = steps[t];
    tile.features(t, now.features);
    step_forward<true>(w, now.features, before.h, before.c, now.h, now.c, &now, [](int, int) {});
  }
  State d;
  tile.end(d);
  auto &dh = d.h, &dc = d.c;
  for (long t = T - 1; t >= 0; t--) {
    Step &now = steps[1 + t], &before = steps[t];
    vec lambda[V];
    tile.cotangent(t, lambda);
    for (int v = 0; v < V; v++) {
      grad.output_bias += lambda[v];
      for (int u = 0; u < H; u++) {
        grad.output[u] += lambda[v] * now.h[L - 1][u][v];
        dh[L - 1][u][v] += lambda[v] * w.output[u];
      }
    }
    for (int l = L - 1; l >= 0; l--) {
      for (int u = 0; u < H; u++)
        for (int v = 0; v < V; v++) {
          vec i = now.gates[l][u][0][v], f = now.gates[l][u][1][v];
          vec g = now.gates[l][u][2][v], o = now.gates[l][u][3][v];
          vec tc = now.tanh_c[l][u][v];
          vec dout = dh[l][u][v];
          vec dcell = dc[l][u][v] + dout * o * (1.f - tc * tc);
          vec di = dcell * g * i * (1.f - i);
          vec df = dcell * before.c[l][u][v] * f * (1.f - f);
          vec dg = dcell * i * (1.f - g * g);
          vec do_ = dout * tc * o * (1.f - o);
          dc[l][u][v] = dcell * f;
          now.gates[l][u][0][v] = di;
          now.gates[l][u][1][v] = df;
          now.gates[l][u][2][v] = dg;
          now.gates[l][u][3][v] = do_;
          grad.bias[l][u][0] += di;
          grad.bias[l][u][1] += df;
          grad.bias[l][u][2] += dg;
          grad.bias[l][u][3] += do_;
          dh[l][u][v] = vec{};
        }
      if (l > 0) all_inputs_backward(w.backward[l], now.gates[l], dh[l - 1], H);
      all_inputs_backward(w.backward[l] + below(l), now.gates[l], dh[l], H);
    }
    if (tile.wants_features()) {
      vec dx[F][V] = {};
      all_inputs_backward(w.backward[0], now.gates[0], dx, F);
      tile.of_features(t, dx);
    }
  }
  tile.of_state(d);
  for (int l = 0; l < L; l++)
    for (int u = 0; u < H; u++) {
      const void *gates = steps[1].gates[l][u];
      const vec(*x)[V] = l == 0 ? steps[1].features : steps[1].h[l - 1];
      all_weights_backward(grad.weight(l, u), gates, x, T, below(l));
      all_weights_backward(grad.weight(l, u) + below(l), gates, steps[0].h[l], T, H);
    }
}

template <class T>
std::unique_ptr<T, void (*)(void *)> aligned(size_t n = 1) {
  void *memory = std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64);
  return {static_cast<T *>(memory), std::free};
}

// What a thread needs for backward.
struct Workspace {
  decltype(aligned<Step>()) steps;
  decltype(aligned<Gradient>()) grad;

  explicit Workspace(long T) : steps(aligned<Step>(T + 1)), grad(aligned<Gradient>()) {}

  bool complete() const { return steps && grad; }
};

// T steps: the state after them may be the memory of that before. `load(t, first, count, x)` gives
// the features, `write(t, first, count, out)` takes the network's output.
template <class Load, class Write>
int forward(const float *weights, const float *state, long state_row_length, float *last,
            long last_row_length, long K, long T, int threads, Load load, Write write) {
  auto storage = aligned<Packed>();
  if (!storage) return 1;
  const Packed &w = *new (storage.get()) Packed(weights);
  const long tiles = (K + TILE - 1) / TILE;
  const size_t bytes = sizeof(float) * STATE * last_row_length;
  const bool streamed = bytes > STREAMED;
  if (streamed && last != state) ask_for_large_pages(last, bytes);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#pragma omp for schedule(static) nowait
    for (long tile = 0; tile < tiles; tile++) {
      const long first = tile * TILE, count = std::min<long>(TILE, K - first);
      State states[2];
      load_state(states[0], state, state_row_length, first, count);
      for (long t = 0; t < T; t++) {
        const State &before = states[t % 2];
        State &after = states[(t + 1) % 2];
        vec x[F][V], out[V];
        load(t, first, count, x);
        // Memory works while the processor does: each unit's state is written when it is there,
        // and the next tile's is fetched.
        auto done = [&](int l, int u) {
          if (t < T - 1) return;
          for (int part = 0; part < 2; part++) {
            const long row = state_row(l, part, u);
            const vec(&from)[V] = part == 0 ? after.h[l][u] : after.c[l][u];
            float *to = last + row * last_row_length + first;
            if (streamed)
              stream_row(to, from, count);
            else
              store_row(to, from, count);
            const float *next = state + row * state_row_length + first + TILE;
            for (int v = 0; v < V; v++) __builtin_prefetch(next + v * WIDTH);
          }
        };
        step_forward<false>(w, x, before.h, before.c, after.h, after.c, nullptr, done);
        output(w, after.h[L - 1], out);
        write(t, first, count, out);
      }
    }
    if (streamed) finish_streams();
  }
  return 0;
}

// The gradient of φ: d_weights [WEIGHTS].
template <class Window>
int backward(const float *weights, const Window &window, float *d_weights, int threads) {
  auto storage = aligned<Packed>();
  if (!storage) return 1;
  const Packed &w = *new (storage.get()) Packed(weights);
  const long lanes = window.lanes();
  const long chunks = std::max<long>(1, std::min(MAX_CHUNKS, (lanes + CHUNK - 1) / CHUNK));
  const long tiles = (lanes + TILE - 1) / TILE;
  const int team = static_cast<int>(std::max<long>(1, std::min<long>(threads, chunks)));
  // Allocated here, for memory that this thread has freed would not be given to the others.
  std::vector<Workspace> workspaces;
  for (int thread = 0; thread < team; thread++) {
    workspaces.emplace_back(window.T);
    if (!workspaces.back().complete()) return 1;
  }
  std::vector<double> total(WEIGHTS);
#pragma omp parallel num_threads(team) if (team > 1)
  {
    const Workspace &own = workspaces[omp_get_thread_num()];
#pragma omp for ordered schedule(dynamic, 1)
    for (long chunk = 0; chunk < chunks; chunk++) {
      std::memset(static_cast<void *>(own.grad.get()), 0, sizeof(Gradient));
      for (long tile = chunk * tiles / chunks; tile < (chunk + 1) * tiles / chunks; tile++) {
        const long first = tile * TILE, count = std::min<long>(TILE, lanes - first);
        tile_backward(w, own.steps.get(), window.tile(first, count), window.T, *own.grad);
      }
      // One chunk after the other, so that the sum does not depend on the threads.
#pragma omp ordered
      own.grad->add_to(total.data());
    }
  }
  for (int i = 0; i < WEIGHTS; i++) d_weights[i] = static_cast<float>(total[i]);
  return 0;
}

}  // namespace

extern "C" {

int lstm_weights() { return WEIGHTS; }

// T steps: updates [T][K], and the state after them, which may be the memory of that before.
int lstm_forward(const float *weights, const float *features, const float *state, float *updates,
                 float *last, long K, long T, long state_row, long last_row, int threads) {
  return forward(
      weights, state, state_row, last, last_row, K, T, threads,
      [=](long t, long first, long count, vec(&x)[F][V]) {
        for (int k = 0; k < F; k++) load_row(x[k], features + (t * F + k) * K + first, count);
      },
      [=](long t, long first, long count, const vec(&out)[V]) {
        store_row(updates + t * K + first, out, count);
      });
}

// One step from gradients [K] to updates [K], which are the network's outputs times `scale`.
int lstm_update(const float *weights, const float *grads, const float *state, float *updates,
                float *last, float p, float factor, float scale, long K, long state_row,
                long last_row, int threads) {
  const Preprocessing preprocessing(p, factor);
  return forward(
      weights, state, state_row, last, last_row, K, 1, threads,
      [&](long, long first, long count, vec(&x)[F][V]) {
        vec gradient[V];
        load_row(gradient, grads + first, count);
        preprocessing(gradient, x);
      },
      [=](long, long first, long count, const vec(&out)[V]) {
        vec scaled[V];
        for (int v = 0; v < V; v++) scaled[v] = scale * out[v];
        store_row(updates + first, scaled, count);
      });
}

// Given d_updates [T][K] and d_last (like the state), the gradient of the sum of updates and last
// state weighted by them: d_weights [WEIGHTS]; d_features and d_state, like what they belong to.
// d_last, d_features and d_state may be null.
int lstm_backward(const float *weights, const float *features, const float *state,
                  const float *d_updates, const float *d_last, float *d_weights, float *d_features,
                  float *d_state, long K, long T, long row, int threads) {
  const GivenWindow window = {features, state, d_updates, d_last, d_features, d_state, K, T, row};
  return backward(weights, window, d_weights, threads);
}

// Given gradients ∇_0 … ∇_T [K] of K / width runs, and the weights [T][K / width] of the losses
// after ∇_0, the gradient of the sum of these losses: d_weights [WEIGHTS]. A loss t steps after an
// update counts discount^(t - 1) times for it.
int lstm_loss_gradient(const float *weights, const float *const *grads, const float *state,
                       const float *loss_weights, float *d_weights, float p, float factor,
                       float scale, float discount, long K, long width, long T, long row,
                       int threads) {
  try {
    const Preprocessing preprocessing(p, factor);
    LossWindow window = {grads,         state, loss_weights, width, discount, scale,
                         preprocessing, K,     T,            row,   {}};
    window.find_active();
    return backward(weights, window, d_weights, threads);
  } catch (const std::bad_alloc &) {
    return 1;
  }
}
}
