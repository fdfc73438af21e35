// The coordinatewise LSTM of section 3, fused over layers, hidden units and time.
//
// Coordinates are vector lanes; a tile of TILE coordinates goes through the network at once and
// stays in the cache. Backward keeps nothing from forward: it recomputes a tile through all steps
// of the window, goes back through them, and adds to the weight gradient.
//
// Compile-time: LAYERS, HIDDEN, INPUTS (features of one coordinate). Features are given, or made
// from gradients.
//
// Layouts, row-major, K coordinates contiguous, a row of the state K floats or longer:
//   features [T][INPUTS][K]   state [LAYERS][h, c][HIDDEN][row]   updates, gradients [T][K]
//   weights  per layer: W [4·HIDDEN][below + HIDDEN], b [4·HIDDEN], gates in the order i, f, g, o;
//            then the output layer: w [HIDDEN], b [1].

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

#include <omp.h>

#include "backward.h"
#include "memory.h"
#include "network.h"
#include "preprocessing.h"
#include "windows.h"

namespace {

// Lengths of work are fixed by the coordinates, so sums do not depend on the number of threads.
constexpr long CHUNK = 512;
constexpr long MAX_CHUNKS = 512;
// Few coordinates go into up to so many chunks of no less than this, a power of 2 of them, which
// threads share evenly.
constexpr long FEW_CHUNKS = 8, SMALL_CHUNK = 128;
// The gradient of the layers' weights is summed in registers over so many steps at least, of
// several tiles where a window has fewer.
constexpr long STEPS = 16;
// A next state of more bytes is written past the caches: it would not be there when it is read.
constexpr size_t STREAMED = 8 << 20;

// T steps: the state after them may be the memory of that before. `load(t, first, count, x)` gives
// the features, `write(t, first, count, out)` takes the network's output.
template <class Load, class Write>
void forward(const float *weights, const float *state, long state_row, float *last,
             long last_row, long K, long T, int threads, Load load, Write write) {
  auto storage = aligned<Packed>();
  const Packed &w = *new (storage.get()) Packed(weights);
  const long tiles = (K + TILE - 1) / TILE;
  const size_t bytes = sizeof(float) * STATE * last_row;
  const bool streamed = bytes > STREAMED;
  if (streamed && last != state) ask_for_large_pages(last, bytes);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#pragma omp for schedule(static) nowait
    for (long tile = 0; tile < tiles; tile++) {
      const long first = tile * TILE, count = std::min<long>(TILE, K - first);
      State states[2];
      load_state(states[0], state, state_row, first, count);
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
            const long number = row_number(l, part, u);
            const vec(&from)[V] = part == 0 ? after.h[l][u] : after.c[l][u];
            float *to = last + number * last_row + first;
            if (streamed)
              stream_row(to, from, count);
            else
              store_row(to, from, count);
            const float *next = state + number * state_row + first + TILE;
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
}

// What a thread needs for backward.
struct Workspace {
  decltype(aligned<Step>()) steps;
  decltype(aligned<Gradient>()) grad;

  Workspace(long T, long group)
      : steps(aligned<Step>(group * (T + 1))), grad(aligned<Gradient>()) {}
};

// The gradient of φ: d_weights [WEIGHTS].
template <class Window>
void backward(const float *weights, const Window &window, float *d_weights, int threads) {
  auto storage = aligned<Packed>();
  const Packed &w = *new (storage.get()) Packed(weights);
  const long lanes = window.lanes();
  long few = 1;
  while (few < FEW_CHUNKS && 2 * few * SMALL_CHUNK <= lanes) few *= 2;
  const long chunks = std::max(few, std::min(MAX_CHUNKS, (lanes + CHUNK - 1) / CHUNK));
  const long tiles = (lanes + TILE - 1) / TILE;
  const int team = static_cast<int>(std::max<long>(1, std::min<long>(threads, chunks)));
  // Allocated here, for memory that this thread has freed would not be given to the others.
  std::vector<Workspace> workspaces;
  const long T = window.T, group = (STEPS + T - 1) / T;
  for (int thread = 0; thread < team; thread++) workspaces.emplace_back(T, group);
  std::vector<double> total(WEIGHTS);
#pragma omp parallel num_threads(team) if (team > 1)
  {
    const Workspace &own = workspaces[omp_get_thread_num()];
#pragma omp for ordered schedule(dynamic, 1)
    for (long chunk = 0; chunk < chunks; chunk++) {
      std::memset(static_cast<void *>(own.grad.get()), 0, sizeof(Gradient));
      const long end = (chunk + 1) * tiles / chunks;
      for (long tile = chunk * tiles / chunks; tile < end; tile += group) {
        const long together = std::min(group, end - tile);
        for (long i = 0; i < together; i++) {
          const long first = (tile + i) * TILE, count = std::min<long>(TILE, lanes - first);
          Step *steps = own.steps.get() + i * (T + 1);
          tile_backward(w, steps, window.tile(first, count), T, *own.grad);
        }
        weights_backward(own.steps.get(), together, T, *own.grad);
      }
      // One chunk after the other, so that the sum does not depend on the threads.
#pragma omp ordered
      own.grad->add_to(total.data());
    }
  }
  for (int i = 0; i < WEIGHTS; i++) d_weights[i] = static_cast<float>(total[i]);
}

// 1 if there was not enough memory, else 0.
template <class Work>
int failed(Work work) {
  try {
    work();
  } catch (const std::bad_alloc &) {
    return 1;
  }
  return 0;
}

}  // namespace

extern "C" {

int lstm_weights() { return WEIGHTS; }

// T steps: updates [T][K], and the state after them, which may be the memory of that before.
int lstm_forward(const float *weights, const float *features, const float *state, float *updates,
                 float *last, long K, long T, long state_row, long last_row, int threads) {
  auto load = [=](long t, long first, long count, vec(&x)[F][V]) {
    for (int k = 0; k < F; k++) load_row(x[k], features + (t * F + k) * K + first, count);
  };
  auto write = [=](long t, long first, long count, const vec(&out)[V]) {
    store_row(updates + t * K + first, out, count);
  };
  return failed(
      [=] { forward(weights, state, state_row, last, last_row, K, T, threads, load, write); });
}

// One step from gradients [K] to updates [K], which are the network's outputs times `update_scale`.
int lstm_update(const float *weights, const float *grads, const float *state, float *updates,
                float *last, float p, float gradient_scale, float update_scale, long K,
                long state_row, long last_row, int threads) {
  const Preprocessing preprocessing(p, gradient_scale);
  auto load = [=](long, long first, long count, vec(&x)[F][V]) {
    vec gradient[V];
    load_row(gradient, grads + first, count);
    preprocessing(gradient, x);
  };
  auto write = [=](long, long first, long count, const vec(&out)[V]) {
    vec scaled[V];
    for (int v = 0; v < V; v++) scaled[v] = update_scale * out[v];
    store_row(updates + first, scaled, count);
  };
  return failed(
      [=] { forward(weights, state, state_row, last, last_row, K, 1, threads, load, write); });
}

// Given d_updates [T][K] and d_last (like the state), the gradient of the sum of updates and last
// state weighted by them: d_weights [WEIGHTS]; d_features and d_state, like what they belong to.
// d_last, d_features and d_state may be null.
int lstm_backward(const float *weights, const float *features, const float *state,
                  const float *d_updates, const float *d_last, float *d_weights, float *d_features,
                  float *d_state, long K, long T, long row, long d_last_row, long d_state_row,
                  int threads) {
  const GivenWindow window = {features,   state,   d_updates, d_last, d_features,
                              d_state,    K,       T,         row,    d_last_row,
                              d_state_row};
  return failed([&] { backward(weights, window, d_weights, threads); });
}

// Given gradients ∇_0 … ∇_T [K] of `runs` runs of `width` coordinates, and the weights [T][runs] of
// the losses after ∇_0, the gradient of the sum of these losses: d_weights [WEIGHTS]. A loss t
// steps after an update counts discount^(t - 1) times for it.
int lstm_loss_gradient(const float *weights, const float *const *grads, const float *state,
                       const float *loss_weights, float *d_weights, float p, float gradient_scale,
                       float update_scale, float discount, long runs, long width, long T, long row,
                       int threads) {
  return failed([&] {
    const Preprocessing preprocessing(p, gradient_scale);
    const LossWindow window{grads, state, loss_weights, preprocessing, update_scale,
                            discount, runs, width, T, row};
    backward(weights, window, d_weights, threads);
  });
}
}
