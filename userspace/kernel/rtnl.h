// SPDX-License-Identifier: Apache-2.0
// A rtnetlink socket: one request at a time, with the kernel's own words on failure.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "userspace/util/address.h"
#include "userspace/util/error.h"

struct mnl_socket;
struct nlattr;

namespace doppel {

struct RtnlStatus {
  int code = 0;       // positive errno; 0: done
  std::string extack; // the kernel's explanation, if it gave one
  bool ok() const { return code == 0; }
  std::string text() const; // "No such device (what the kernel added)"
};

// One reply, copied out of the socket's buffer.
class RtnlMessage {
public:
  explicit RtnlMessage(const nlmsghdr *h);
  const nlmsghdr *header() const { return reinterpret_cast<const nlmsghdr *>(words_.data()); }

private:
  std::vector<uint64_t> words_;
};

// Attributes behind a family header of `header` bytes, or inside another attribute. libmnl's own
// loops do not compile as C++.
std::vector<const nlattr *> attributes(const nlmsghdr *h, size_t header);
std::vector<const nlattr *> nested(const nlattr *parent);

// AF_INET or AF_INET6, as family headers have it.
uint8_t netlink_family(const Address &a);
// The Address that an attribute has, by its length. Not set: none of 4 or 16 bytes.
Address read_address(const nlattr *a);
void put_address(nlmsghdr *h, uint16_t type, const Address &a);

// A request under construction. Attributes are added with mnl_attr_put_*.
class RtnlRequest {
public:
  RtnlRequest(uint16_t type, uint16_t flags); // NLM_F_REQUEST is added
  RtnlRequest(const RtnlRequest &) = delete;
  RtnlRequest &operator=(const RtnlRequest &) = delete;
  template <typename T> T *extra() { return static_cast<T *>(reserve(sizeof(T))); }
  nlmsghdr *header() { return h_; }

private:
  void *reserve(size_t size);
  alignas(8) char buf_[4096] = {};
  nlmsghdr *h_;
};

class Rtnl {
public:
  static Result<Rtnl> open();
  // Another NETLINK_* family, whose requests and dumps have the same form.
  static Result<Rtnl> open(int family);
  // Sends `q` and waits for its end: acknowledgement, error, or end of the dump. Replies go to
  // `out`. A dump that the kernel marks as inconsistent is repeated. Not thread-safe.
  RtnlStatus run(RtnlRequest &q, std::vector<RtnlMessage> *out = nullptr);

private:
  struct Closer {
    void operator()(mnl_socket *s) const;
  };
  explicit Rtnl(mnl_socket *s) : socket_(s) {}
  RtnlStatus exchange(nlmsghdr *h, std::vector<RtnlMessage> *out, bool *interrupted);
  std::unique_ptr<mnl_socket, Closer> socket_;
  uint32_t seq_ = 0;
};

// "cannot do X: <errno text> (<extack>)"
Error rtnl_error(std::string where, std::string what, const RtnlStatus &status,
                 std::string hint = {});

} // namespace doppel
