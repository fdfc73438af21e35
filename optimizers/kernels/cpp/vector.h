// Vectors of coordinates, and the functions of them that the LSTM needs.

#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX512F__)
#include <immintrin.h>
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
typedef uint32_t uvec __attribute__((vector_size(WIDTH * 4)));

constexpr int V = VECTORS;
constexpr int TILE = WIDTH * V;  // coordinates that are worked on at once

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
  const ivec n = (ivec)((uvec)bits - 0x3f3504f3u) >> 23;
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

}  // namespace
