# SPDX-License-Identifier: Apache-2.0
"""Three hosts and a switch in namespaces, for the network tests, the demo and developers."""
