// From gradients, times a factor, to the network's inputs: two of them by Appendix A, or one.

#pragma once

#include <cmath>
#include <limits>

#include "network.h"

namespace {

class Preprocessing {
 public:
  Preprocessing(float p, float gradient_scale)
      : scale_(1.f / p), threshold_(static_cast<float>(std::exp(-static_cast<double>(p)))),
        inverse_(1.f / threshold_), gradient_scale_(gradient_scale) {}

  void operator()(const vec (&gradient)[V], vec (&x)[F][V]) const {
    for (int v = 0; v < V; v++) {
      const vec g = gradient_scale_ * gradient[v];
      if constexpr (F == 1) {
        x[0][v] = g;
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
  float scale_, threshold_, inverse_, gradient_scale_;
};

}  // namespace
