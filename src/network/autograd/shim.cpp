// Functions of libtorch that the `tch` crate lacks: a hook on a leaf's finished gradient, a sum
// over ranks with gradients, AdamW in one pass, and convolutions with kernels in oneDNN's own
// order. Nothing here throws into Rust: `atlas_error` has the text.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_fused_adamw.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>

#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <vector>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

using Ready = void (*)(void *context, size_t index);
using Reduce = void (*)(const void *context, Tensor *values);

struct Hook : torch::autograd::PostAccumulateGradHook {
  Hook(Ready ready, void *context, size_t index) : ready(ready), context(context), index(index) {}
  void operator()(const Tensor &) override { ready(context, index); }
  Ready ready;
  void *context;
  size_t index;
};

thread_local std::string last_error;

void failed(const std::exception &e) { last_error = e.what(); }

Tensor reduced(const Tensor &x, int64_t reduce, int64_t context) {
  Tensor y = x.detach().clone(at::MemoryFormat::Contiguous);
  reinterpret_cast<Reduce>(reduce)(reinterpret_cast<const void *>(context), &y);
  return y;
}

// The sum over ranks; its gradient is the sum over ranks of the gradients.
struct Sum : torch::autograd::Function<Sum> {
  static Tensor forward(AutogradContext *saved, const Tensor &x, int64_t reduce, int64_t context) {
    saved->saved_data["reduce"] = reduce;
    saved->saved_data["context"] = context;
    return reduced(x, reduce, context);
  }
  static variable_list backward(AutogradContext *saved, variable_list gradients) {
    Tensor sum = reduced(gradients[0], saved->saved_data["reduce"].toInt(),
                         saved->saved_data["context"].toInt());
    return {sum, Tensor(), Tensor()};
  }
};

} // namespace

// What the last function here that failed in this thread caught.
extern "C" const char *atlas_error() { return last_error.c_str(); }

// Calls `ending` with the text of an exception that nothing catches, before the process ends.
extern "C" void atlas_on_terminate(void (*ending)(const char *what)) {
  static std::atomic<void (*)(const char *)> call;
  call = ending;
  std::set_terminate([] {
    try {
      if (std::current_exception()) std::rethrow_exception(std::current_exception());
    } catch (const std::exception &e) {
      call.load()(e.what());
    } catch (...) {
    }
    std::abort();
  });
}

// Calls `ready(context, index)` whenever a backward pass has added to the gradient of `leaf`. A
// null `ready` removes the hook. Returns whether it succeeded.
extern "C" bool atlas_on_gradient(const Tensor *leaf, Ready ready, void *context, size_t index) {
  try {
    std::unique_ptr<torch::autograd::PostAccumulateGradHook> hook;
    if (ready) hook = std::make_unique<Hook>(ready, context, index);
    torch::autograd::impl::set_post_acc_grad_hooks(*leaf, std::move(hook));
    return true;
  } catch (const std::exception &e) {
    return failed(e), false;
  }
}

// A new tensor, the sum of `x` over the ranks; `reduce(context, values)` sums the contiguous
// `values` in place, now and again in the backward pass. Null on failure.
extern "C" Tensor *atlas_sum_over_ranks(const Tensor *x, Reduce reduce, const void *context) {
  try {
    return new Tensor(Sum::apply(*x, reinterpret_cast<int64_t>(reduce),
                                 reinterpret_cast<int64_t>(context)));
  } catch (const std::exception &e) {
    return failed(e), nullptr;
  }
}

// One step of AdamW on `n` times four tensors of one length: parameters, gradients, and the running
// means of gradients and of their squares. `step` counts from 1. Returns whether it succeeded.
extern "C" bool atlas_adamw(Tensor *const *tensors, size_t n, double lr, double beta1, double beta2,
                            double decay, double eps, double step) {
  try {
    std::vector<Tensor> lists[4];
    for (size_t i = 0; i < 4 * n; i++) lists[i % 4].push_back(*tensors[i]);
    if (n == 0) return true;
    at::NoGradGuard guard;
    const at::TensorOptions f32 = lists[0][0].options().dtype(at::kFloat);
    const std::vector<Tensor> steps(n, at::scalar_tensor(step, f32));
    at::_fused_adamw_(lists[0], lists[1], lists[2], lists[3], {}, steps, lr, beta1, beta2, decay,
                      eps, false, false);
    return true;
  } catch (const std::exception &e) {
    return failed(e), false;
  }
}

// The kernels `weight` in oneDNN's own order for inputs of `size` [n, c, h, w]. Null if oneDNN does
// not accept them.
extern "C" Tensor *atlas_pack_kernels(const Tensor *weight, int64_t stride, int64_t padding,
                                      int64_t groups, const int64_t *size) {
  try {
    using Pack = Tensor(const Tensor &, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                        at::OptionalIntArrayRef);
    static const auto pack = c10::Dispatcher::singleton()
                                 .findSchemaOrThrow("mkldnn::_reorder_convolution_weight", "")
                                 .typed<Pack>();
    const int64_t s[] = {stride, stride}, p[] = {padding, padding}, one[] = {1, 1};
    return new Tensor(pack.call(*weight, p, s, one, groups, at::IntArrayRef(size, 4)));
  } catch (const std::exception &e) {
    return failed(e), nullptr;
  }
}

// The convolution of `x` with such kernels, and a bias. Null on failure.
extern "C" Tensor *atlas_packed_convolution(const Tensor *x, const Tensor *packed,
                                            const Tensor *bias, int64_t stride, int64_t padding,
                                            int64_t groups) {
  try {
    using Scalars = torch::List<std::optional<at::Scalar>>;
    using Convolve = Tensor(const Tensor &, const Tensor &, const std::optional<Tensor> &,
                            at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                            std::string_view, Scalars, std::optional<std::string_view>);
    static const auto convolve = c10::Dispatcher::singleton()
                                     .findSchemaOrThrow("mkldnn::_convolution_pointwise", "")
                                     .typed<Convolve>();
    const int64_t s[] = {stride, stride}, p[] = {padding, padding}, one[] = {1, 1};
    return new Tensor(
        convolve.call(*x, *packed, *bias, p, s, one, groups, "none", Scalars(), ""));
  } catch (const std::exception &e) {
    return failed(e), nullptr;
  }
}
