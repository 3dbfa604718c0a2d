// hash.cu - the source of hash.ptx: nvcc -ptx -arch=sm_75 hash.cu, with .version and .target lowered to what older
// drivers read. See hash.h.
extern "C" __global__ void tierd_hash(const unsigned long long* words, unsigned long long count,
                                      unsigned long long* sum, unsigned long long key0,
                                      unsigned long long key1) {
    unsigned long long lane0 = 0, lane1 = 0;
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        unsigned long long word = words[i], place = i * 0x9e3779b97f4a7c15ull;
        unsigned long long t = (word ^ (key0 + place)) * 0xff51afd7ed558ccdull;
        t = (t ^ (t >> 32)) * 0xc4ceb9fe1a85ec53ull;
        lane0 += t ^ (t >> 29);
        t = (word ^ (key1 + place)) * 0xff51afd7ed558ccdull;
        t = (t ^ (t >> 32)) * 0xc4ceb9fe1a85ec53ull;
        lane1 += t ^ (t >> 29);
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        lane0 += __shfl_down_sync(0xffffffffu, lane0, lanes);
        lane1 += __shfl_down_sync(0xffffffffu, lane1, lanes);
    }
    if (threadIdx.x % 32 == 0) {
        atomicAdd(sum, lane0);
        atomicAdd(sum + 1, lane1);
    }
}
