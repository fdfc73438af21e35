// What backward reads and writes for a tile of coordinates, in the two ways in which it is used.
//
// `first` and `count` are the tile's lanes.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "network.h"
#include "preprocessing.h"

namespace {

// A window whose features and cotangents are given; d_last, d_features and d_state may be null.
struct GivenWindow {
  const float *features, *state, *d_updates, *d_last;
  float *d_features, *d_state;
  long K, T;
  long row, d_last_row, d_state_row;  // lengths of the states' rows

  long lanes() const { return K; }

  struct Tile {
    const GivenWindow &window;
    const long first, count;

    void before(State &state) const { load_state(state, window.state, window.row, first, count); }

    void features(long t, vec (&x)[F][V]) const {
      for (int k = 0; k < F; k++)
        load_row(x[k], window.features + (t * F + k) * window.K + first, count);
    }

    void load_last(State &d) const {
      if (window.d_last) load_state(d, window.d_last, window.d_last_row, first, count);
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
      if (window.d_state) store_state(window.d_state, d, window.d_state_row, first, count);
    }
  };

  Tile tile(long first, long count) const { return {*this, first, count}; }
};

// A window of an optimizee's gradients, for the gradient of weighted losses. Taken as constants,
// the gradients are the network's inputs, and the cotangents are sums of them.
class LossWindow {
 public:
  const float *const *grads;  // ∇_0 … ∇_T, [K] each
  const float *state;
  const float *loss_weights;  // of each loss after the first, and each run [T][runs]
  const Preprocessing &preprocessing;
  const float update_scale;
  const float discount;  // of a loss, for each step that it is later
  const long runs, width;  // K = runs · width
  const long T, row;       // a row of `state`
  // Coordinates with a cotangent that is not zero. Others add nothing: on MNIST, pixels that stay
  // black in all minibatches of the window.
  const std::vector<uint32_t> active = find_active();

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
          gather(state.h[l][u], window.state + row_number(l, 0, u) * window.row, own);
          gather(state.c[l][u], window.state + row_number(l, 1, u) * window.row, own);
        }
    }

    void features(long t, vec (&x)[F][V]) const {
      vec gradient[V];
      gather(gradient, window.grads[t], own);
      window.preprocessing(gradient, x);
    }

    // To be called from the last step to the first.
    void cotangent(long t, vec (&lambda)[V]) {
      vec gradient[V], weight[V];
      gather(gradient, window.grads[t + 1], own);
      gather(weight, window.loss_weights + t * window.runs, run);
      for (int v = 0; v < V; v++) {
        sum[v] = gradient[v] * weight[v] + window.discount * sum[v];
        lambda[v] = window.update_scale * sum[v];
      }
    }

    void load_last(State &) const {}
    bool wants_features() const { return false; }
    void of_features(long, const vec (&)[F][V]) const {}
    void of_state(const State &) const {}
  };

  Tile tile(long first, long count) const { return {*this, first, count}; }

 private:
  std::vector<uint32_t> find_active() const {
    const long K = runs * width;
    std::vector<unsigned char> moves(K);
    for (long t = 1; t <= T; t++)
      for (long k = 0; k < K; k++) moves[k] |= grads[t][k] != 0.f;
    std::vector<uint32_t> found;
    found.reserve(std::count(moves.begin(), moves.end(), 1));
    for (long k = 0; k < K; k++)
      if (moves[k]) found.push_back(static_cast<uint32_t>(k));
    return found;
  }
};

}  // namespace
