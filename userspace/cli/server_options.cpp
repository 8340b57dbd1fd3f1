// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/server_options.h"

#include <CLI/App.hpp>

#include "userspace/cli/options.h"
#include "userspace/util/file.h"

namespace doppel {

void add_server_options(CLI::App &app, ServerOptions &o) {
  add_json_flag(app, o.json);
  add_seconds(app, "--timeout", o.timeout_s,
              "Give up on a server that is silent, or drips, for this long; 5 by default");
  add_text(app, "--auth-file", o.auth_file,
           "Authenticate with the line USER:PASSWORD of this file, where a server asks for it",
           "FILE");
  CLI::Option *tls = app.add_flag("--tls", o.tls, "Speak TLS, and check the server's certificate");
  const auto add_file = [&](const char *name, std::string &value, const char *help) {
    return app.add_option(name, value, help)->type_name("FILE")->needs(tls);
  };
  add_file("--ca", o.ca, "Trust the authorities in this file (PEM) instead of the system's");
  CLI::Option *cert = add_file("--cert", o.cert, "Show this certificate (PEM) to the server");
  add_file("--key", o.key, "Its key (PEM), where it is not in the same file")->needs(cert);
}

void add_server(CLI::App &app, const char *name, std::string &value, const char *help) {
  const auto fault = [](const std::string &text) -> std::string {
    const auto server = memcached::parse_server(text);
    return server ? "" : server.errors()[0].where + ": " + server.errors()[0].what;
  };
  app.add_option(name, value, help)->required()->type_name("")->check(CLI::Validator(fault, ""));
}

Result<memcached::Access> access_of(const ServerOptions &o) {
  memcached::Access access;
  access.timeout_ms = static_cast<uint32_t>(o.timeout_s * 1000);
  access.tls = o.tls;
  access.ca = o.ca;
  access.cert = o.cert;
  access.key = o.key;
  for (const std::string &file : {o.ca, o.cert, o.key})
    TRY(check_regular(file));
  if (!o.auth_file.empty())
    TRY(memcached::read_auth_file(o.auth_file, access));
  return access;
}

Result<std::unique_ptr<memcached::Connection>> connect(const std::string &server,
                                                       const ServerOptions &options) {
  const auto parsed = TRY(memcached::parse_server(server));
  return memcached::Connection::open(parsed, TRY(access_of(options)));
}

} // namespace doppel
