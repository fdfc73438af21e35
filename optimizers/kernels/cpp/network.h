// The network: its sizes, weights and state, and one step of a tile of coordinates.

#pragma once

#include <cstring>

#include "memory.h"
#include "vector.h"

namespace {

constexpr int L = LAYERS, H = HIDDEN, F = INPUTS;
constexpr int G = 4 * H;
constexpr int STATE = 2 * L * H;  // rows of the state

constexpr int below(int l) { return l == 0 ? F : H; }
constexpr int fan_in(int l) { return below(l) + H; }
constexpr int layer_offset(int l) {
  int offset = 0;
  for (int k = 0; k < l; k++) offset += G * fan_in(k) + G;
  return offset;
}
constexpr int OUTPUT = layer_offset(L);
constexpr int WEIGHTS = OUTPUT + H + 1;

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

inline long row_number(int l, int part, int u) { return (2 * l + part) * H + u; }

void load_state(State &state, const float *source, long row, long first, long count) {
  for (int l = 0; l < L; l++)
    for (int u = 0; u < H; u++) {
      load_row(state.h[l][u], source + row_number(l, 0, u) * row + first, count);
      load_row(state.c[l][u], source + row_number(l, 1, u) * row + first, count);
    }
}

void store_state(float *target, const State &state, long row, long first, long count) {
  for (int l = 0; l < L; l++)
    for (int u = 0; u < H; u++) {
      store_row(target + row_number(l, 0, u) * row + first, state.h[l][u], count);
      store_row(target + row_number(l, 1, u) * row + first, state.c[l][u], count);
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

}  // namespace
