# SPDX-License-Identifier: Apache-2.0
"""How clang's programs are run."""

import os


def environment():
    """Their memory in huge pages (glibc 2.35 and later): page by page it costs them a quarter of their time. GCC manages its
    memory itself, and is slower with it."""
    return {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
