// api_refused.cc - documented functions whose documented answer here is "not supported": sharing memory and events with
// other processes, and arrays.
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

CUresult CUDAAPI cuIpcGetMemHandle(CUipcMemHandle*, CUdeviceptr) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuIpcOpenMemHandle_v2(CUdeviceptr*, CUipcMemHandle, unsigned int) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuIpcGetEventHandle(CUipcEventHandle*, CUevent) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuIpcOpenEventHandle(CUevent*, CUipcEventHandle) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuMemPoolExportToShareableHandle(void*, CUmemoryPool, CUmemAllocationHandleType,
                                                  unsigned long long) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuMemPoolImportFromShareableHandle(CUmemoryPool*, void*, CUmemAllocationHandleType,
                                                    unsigned long long) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuArrayCreate_v2(CUarray*, const CUDA_ARRAY_DESCRIPTOR*) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuArray3DCreate_v2(CUarray*, const CUDA_ARRAY3D_DESCRIPTOR*) {
    return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult CUDAAPI cuGetExportTable(const void**, const CUuuid*) {
    return CUDA_ERROR_NOT_FOUND;  // its tables are not documented
}
