// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "userspace/util/address.h"
#include "userspace/util/clock.h"

namespace doppel::memcached {
namespace {
// OpenSSL's own BIO of a socket raises SIGPIPE where the server has closed.
int bio_write(BIO *bio, const char *from, int size) {
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const auto n = ::send(fd, from, static_cast<size_t>(size), MSG_NOSIGNAL);
  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    BIO_set_retry_write(bio);
  return static_cast<int>(n);
}

int bio_read(BIO *bio, char *to, int room) {
  const auto fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const auto n = ::recv(fd, to, static_cast<size_t>(room), 0);
  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    BIO_set_retry_read(bio);
  return static_cast<int>(n);
}

long bio_control(BIO *, int what, long, void *) { return what == BIO_CTRL_FLUSH ? 1 : 0; }

// Lives as long as the process.
const BIO_METHOD *socket_method() {
  static const BIO_METHOD *const method = [] {
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "doppel socket");
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_ctrl(m, bio_control);
    return m;
  }();
  return method;
}

std::string openssl_text() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char *reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  return reason ? reason : "no reason given";
}

Error file_error(const std::string &file, const std::string &what) {
  return {file, what + ": " + openssl_text(), "", Exit::failure};
}

} // namespace

Tls::~Tls() {
  SSL_free(ssl_);
  SSL_CTX_free(context_);
}

Status Tls::prepare(int fd, const Server &server, const Access &access) {
  ERR_clear_error();
  context_ = SSL_CTX_new(TLS_client_method());
  if (!context_)
    return Error{server.text(), "TLS: " + openssl_text(), "", Exit::failure};
  SSL_CTX_set_min_proto_version(context_, TLS1_2_VERSION);
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (access.ca.empty())
    SSL_CTX_set_default_verify_paths(context_);
  else if (SSL_CTX_load_verify_file(context_, access.ca.c_str()) != 1)
    return file_error(access.ca, "no certificates of authorities in PEM");
  const std::string &key = access.key.empty() ? access.cert : access.key;
  if (!access.cert.empty() &&
      SSL_CTX_use_certificate_chain_file(context_, access.cert.c_str()) != 1)
    return file_error(access.cert, "no certificate in PEM");
  if (!key.empty() && SSL_CTX_use_PrivateKey_file(context_, key.c_str(), SSL_FILETYPE_PEM) != 1)
    return file_error(key, "no key in PEM that belongs to the certificate");
  ssl_ = SSL_new(context_);
  BIO *bio = BIO_new(socket_method());
  BIO_set_data(bio, reinterpret_cast<void *>(static_cast<intptr_t>(fd))); // NOLINT
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  if (!server.path.empty())
    return Unit{};
  if (parse_address(server.host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), server.host.c_str());
  } else {
    SSL_set1_host(ssl_, server.host.c_str());
    SSL_set_tlsext_host_name(ssl_, server.host.c_str()); // NOLINT: a cast inside the macro
  }
  return Unit{};
}

// memcached (1.6.18) does not see a request that came together with the end of the greeting, and
// answers it with the next. Its ticket says that it is through (RFC 8446, 4.6.1); a server need not
// send one.
void Tls::wait_for_ticket(int fd) const {
  constexpr int kMostMs = 200;
  pollfd p{fd, POLLIN, 0};
  if (SSL_version(ssl_) >= TLS1_3_VERSION)
    ::poll(&p, 1, kMostMs);
}

Status Tls::shake_hands(int fd, const Server &server, uint64_t deadline_ns) {
  for (;;) {
    ERR_clear_error();
    const Moved m = moved(SSL_connect(ssl_), 0);
    if (m.how == Moved::How::done) {
      wait_for_ticket(fd);
      return Unit{};
    }
    if (m.how != Moved::How::again) {
      const long verified = SSL_get_verify_result(ssl_);
      if (verified != X509_V_OK)
        return Error{server.text(),
                     std::string("its certificate is not trusted: ") +
                         X509_verify_cert_error_string(verified),
                     "--ca names the file of the authority that signed it", Exit::failure};
      return Error{server.text(), "TLS fails: " + why_, "does the server speak TLS?",
                   Exit::failure};
    }
    const uint64_t now = monotonic_ns();
    pollfd p{fd, m.wants, 0};
    if (now >= deadline_ns ||
        ::poll(&p, 1, static_cast<int>((deadline_ns - now) / 1'000'000) + 1) == 0)
      return Error{server.text(), "does not answer the greeting of TLS",
                   "does the server speak TLS?", Exit::failure};
  }
}

Result<std::unique_ptr<Tls>> Tls::start(int fd, const Server &server, const Access &access,
                                        uint64_t deadline_ns) {
  std::unique_ptr<Tls> tls(new Tls);
  TRY(tls->prepare(fd, server, access));
  TRY(tls->shake_hands(fd, server, deadline_ns));
  return tls;
}

Moved Tls::moved(int result, size_t bytes) {
  if (result > 0)
    return {Moved::How::done, bytes, 0};
  const int err = errno;
  switch (SSL_get_error(ssl_, result)) {
  case SSL_ERROR_WANT_READ:
    return {Moved::How::again, 0, POLLIN};
  case SSL_ERROR_WANT_WRITE:
    return {Moved::How::again, 0, POLLOUT};
  case SSL_ERROR_ZERO_RETURN:
    return {Moved::How::closed, 0, 0};
  case SSL_ERROR_SYSCALL:
    if (ERR_peek_error() == 0) {
      why_ = result == 0 || err == 0 ? "the server closed the connection" : std::strerror(err);
      return {Moved::How::failed, 0, 0};
    }
    [[fallthrough]];
  default:
    why_ = openssl_text();
    return {Moved::How::failed, 0, 0};
  }
}

Moved Tls::read(char *to, size_t room) {
  ERR_clear_error();
  size_t bytes = 0;
  const int result = SSL_read_ex(ssl_, to, room, &bytes);
  return moved(result, bytes);
}

Moved Tls::write(const char *from, size_t size) {
  ERR_clear_error();
  size_t bytes = 0;
  const int result = SSL_write_ex(ssl_, from, size, &bytes);
  return moved(result, bytes);
}

bool Tls::pending() const { return SSL_pending(ssl_) > 0; }

std::string Tls::why() const { return why_; }

} // namespace doppel::memcached
