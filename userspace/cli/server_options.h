// SPDX-License-Identifier: Apache-2.0
// The options of commands that talk to memcacheds.
#pragma once

#include <memory>
#include <string>

#include "userspace/memcached/connection.h"

namespace CLI {
class App;
}

namespace doppel {

struct ServerOptions {
  bool json = false;
  double timeout_s = 5;
  std::string auth_file;
  bool tls = false;
  std::string ca, cert, key;
};

// --json, --timeout, --auth-file, --tls, --ca, --cert and --key.
void add_server_options(CLI::App &app, ServerOptions &options);

// A server without an option before it, which must be given. `name`: as in "SOURCE".
void add_server(CLI::App &app, const char *name, std::string &value, const char *help);

// What the options say. Reads the file of --auth-file.
Result<memcached::Access> access_of(const ServerOptions &options);

// To the server that was typed, with what the options say.
Result<std::unique_ptr<memcached::Connection>> connect(const std::string &server,
                                                       const ServerOptions &options);

} // namespace doppel
