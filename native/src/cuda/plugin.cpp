#include "cuda/plugin.h"

#include "cuda/backend.h"

namespace bertology::cuda {
namespace {

const Plugin kPlugin = {BERTOLOGY_VERSION, device_count, [](int32_t ordinal) {
                          return std::shared_ptr<Backend>(std::make_shared<CudaBackend>(ordinal));
                        }};

}  // namespace
}  // namespace bertology::cuda

const bertology::cuda::Plugin* bertology_cuda_plugin() { return &bertology::cuda::kPlugin; }
