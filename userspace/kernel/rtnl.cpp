// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/rtnl.h"

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace doppel {
namespace {
// Above 8 KiB the kernel fills larger messages into one read of a dump (netlink_dump()).
constexpr size_t kReceiveBuffer = size_t{64} * 1024;
constexpr int kDumpTries = 10;

RtnlStatus parse_error(const nlmsghdr *h) {
  RtnlStatus status;
  if (mnl_nlmsg_get_payload_len(h) < sizeof(nlmsgerr))
    return {EBADMSG, {}};
  auto *err = static_cast<const nlmsgerr *>(mnl_nlmsg_get_payload(h));
  status.code = -err->error;
  if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
    return status;
  size_t skip = sizeof(*err);
  if (!(h->nlmsg_flags & NLM_F_CAPPED) && err->error)
    skip += MNL_ALIGN(err->msg.nlmsg_len - sizeof(nlmsghdr));
  for (const nlattr *a : attributes(h, skip)) {
    if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG)
      status.extack = std::string(mnl_attr_get_str(a));
  }
  return status;
}

} // namespace

std::vector<const nlattr *> attributes(const nlmsghdr *h, size_t header) {
  std::vector<const nlattr *> all;
  auto *a = static_cast<const nlattr *>(mnl_nlmsg_get_payload_offset(h, header));
  auto *tail = static_cast<const char *>(mnl_nlmsg_get_payload_tail(h));
  for (; mnl_attr_ok(a, static_cast<int>(tail - reinterpret_cast<const char *>(a)));
       a = mnl_attr_next(a))
    all.push_back(a);
  return all;
}

std::vector<const nlattr *> nested(const nlattr *parent) {
  std::vector<const nlattr *> all;
  auto *a = static_cast<const nlattr *>(mnl_attr_get_payload(parent));
  auto *tail = reinterpret_cast<const char *>(a) + mnl_attr_get_payload_len(parent);
  for (; mnl_attr_ok(a, static_cast<int>(tail - reinterpret_cast<const char *>(a)));
       a = mnl_attr_next(a))
    all.push_back(a);
  return all;
}

uint8_t netlink_family(const Address &a) { return a.is_v4() ? AF_INET : AF_INET6; }

Address read_address(const nlattr *a) {
  if (mnl_attr_get_payload_len(a) == sizeof(uint32_t))
    return Address::v4(mnl_attr_get_u32(a));
  Address address;
  if (mnl_attr_get_payload_len(a) == sizeof(address.raw))
    std::memcpy(&address.raw, mnl_attr_get_payload(a), sizeof(address.raw));
  return address;
}

void put_address(nlmsghdr *h, uint16_t type, const Address &a) {
  if (a.is_v4())
    mnl_attr_put_u32(h, type, a.raw.w[3]);
  else
    mnl_attr_put(h, type, sizeof(a.raw), &a.raw);
}

std::string RtnlStatus::text() const {
  std::string s = std::strerror(code);
  if (!extack.empty())
    s += " (" + extack + ")";
  return s;
}

Error rtnl_error(std::string where, std::string what, const RtnlStatus &status, std::string hint) {
  return {std::move(where), std::move(what) + ": " + status.text(), std::move(hint), Exit::failure};
}

RtnlMessage::RtnlMessage(const nlmsghdr *h) : words_((h->nlmsg_len + 7) / 8) {
  std::memcpy(words_.data(), h, h->nlmsg_len);
}

RtnlRequest::RtnlRequest(uint16_t type, uint16_t flags) : h_(mnl_nlmsg_put_header(buf_)) {
  h_->nlmsg_type = type;
  h_->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  if ((flags & NLM_F_DUMP) != NLM_F_DUMP)
    h_->nlmsg_flags |= NLM_F_ACK;
}

void *RtnlRequest::reserve(size_t size) { return mnl_nlmsg_put_extra_header(h_, size); }

void Rtnl::Closer::operator()(mnl_socket *s) const { mnl_socket_close(s); }

Result<Rtnl> Rtnl::open() { return open(NETLINK_ROUTE); }

Result<Rtnl> Rtnl::open(int family) {
  const char *name = family == NETLINK_ROUTE ? "rtnetlink" : "netlink";
  mnl_socket *s = mnl_socket_open2(family, SOCK_CLOEXEC);
  if (!s)
    return Error{name, std::string("cannot open a socket: ") + std::strerror(errno), {}};
  Rtnl nl(s);
  if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0)
    return Error{name, std::string("cannot bind: ") + std::strerror(errno), {}};
  int on = 1; // both are comforts: without them errors merely lose their explanation
  mnl_socket_setsockopt(s, NETLINK_EXT_ACK, &on, sizeof(on));
  mnl_socket_setsockopt(s, NETLINK_CAP_ACK, &on, sizeof(on));
  return nl;
}

RtnlStatus Rtnl::exchange(nlmsghdr *q, std::vector<RtnlMessage> *out, bool *interrupted) {
  q->nlmsg_seq = ++seq_;
  if (mnl_socket_sendto(socket_.get(), q, q->nlmsg_len) < 0)
    return {errno, {}};
  std::vector<char> buf(kReceiveBuffer);
  for (;;) {
    ssize_t got = mnl_socket_recvfrom(socket_.get(), buf.data(), buf.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return {errno, {}};
    int left = static_cast<int>(got);
    for (auto *h = reinterpret_cast<nlmsghdr *>(buf.data()); mnl_nlmsg_ok(h, left);
         h = mnl_nlmsg_next(h, &left)) {
      if (h->nlmsg_seq != seq_)
        continue;
      if (h->nlmsg_flags & NLM_F_DUMP_INTR)
        *interrupted = true;
      if (h->nlmsg_type == NLMSG_ERROR)
        return parse_error(h);
      if (h->nlmsg_type == NLMSG_DONE) {
        int code = 0;
        if (mnl_nlmsg_get_payload_len(h) >= sizeof(code))
          std::memcpy(&code, mnl_nlmsg_get_payload(h), sizeof(code));
        return {code < 0 ? -code : 0, {}};
      }
      if (out)
        out->emplace_back(h);
    }
  }
}

RtnlStatus Rtnl::run(RtnlRequest &q, std::vector<RtnlMessage> *out) {
  for (int i = 0;; i++) {
    bool interrupted = false;
    if (out)
      out->clear();
    RtnlStatus status = exchange(q.header(), out, &interrupted);
    if (!status.ok() || !interrupted)
      return status;
    if (i == kDumpTries)
      return {EAGAIN, "the table kept changing while it was read"};
  }
}

} // namespace doppel
