// A tile of coordinates through a window and back: what it adds to the gradient of the weights.

#pragma once

#include <cstddef>
#include <cstring>

#include "network.h"

// For loops that are slower by a twentieth where the compiler makes calls of them.
#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace {

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

// Sums of the weight gradient stay vectors until the end of a chunk, small ones of four lanes.
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

// Σ gate gradients × inputs over the tiles and steps of a group, for one unit and COLUMNS inputs.
template <int COLUMNS>
ALWAYS_INLINE void weight_backward(quad (*into)[4], const char *gates, const char *x, long tiles,
                                   long T) {
  vec sum[COLUMNS][4] = {};
  for (long tile = 0; tile < tiles; tile++, gates += sizeof(Step), x += sizeof(Step))
    for (long t = 0; t < T; t++, gates += sizeof(Step), x += sizeof(Step)) {
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

ALWAYS_INLINE void all_columns_backward(quad (*into)[4], const void *gates, const vec (*x)[V],
                                        int columns, long tiles, long T) {
  auto dg = static_cast<const char *>(gates);
  auto at = [&](int k) { return reinterpret_cast<const char *>(x + k); };
  int k = 0;
  for (; k + 5 <= columns; k += 5) weight_backward<5>(into + k, dg, at(k), tiles, T);
  for (; k + 2 <= columns; k += 2) weight_backward<2>(into + k, dg, at(k), tiles, T);
  for (; k < columns; k++) weight_backward<1>(into + k, dg, at(k), tiles, T);
}

// Adds the weights' gradient of a group of tiles, T + 1 steps each, to `grad`.
inline void weights_backward(const Step *steps, long tiles, long T, Gradient &grad) {
  for (int l = 0; l < L; l++)
    for (int u = 0; u < H; u++) {
      const void *gates = steps[1].gates[l][u];
      const vec(*x)[V] = l == 0 ? steps[1].features : steps[1].h[l - 1];
      quad(*into)[4] = grad.weight(l, u);
      all_columns_backward(into, gates, x, below(l), tiles, T);
      all_columns_backward(into + below(l), gates, steps[0].h[l], H, tiles, T);
    }
}

// One tile through the window and back. steps[0] holds the state before the window (h and c only),
// steps[1 + t] time t. Of the gradient, all but the layers' weights is added to `grad`.
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
  State d = {};
  tile.load_last(d);
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
}

}  // namespace
