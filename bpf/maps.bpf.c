// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#define DEFINE_MAPS
#include "maps.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
