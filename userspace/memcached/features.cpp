// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/features.h"

#include <string>
#include <vector>

#include "userspace/memcached/stats.h"

namespace doppel::memcached {
namespace {
// A flag that is known before one whose token is bad makes "bad token", an unknown one "invalid
// flag" (memcached 1.6.18, _meta_flag_preparse). The key is never looked up.
constexpr char kProbes[] = "mn\r\n"
                           "mg AA== b Cx\r\n"
                           "mg a Ex\r\n"
                           "me AA==\r\n"
                           "lru_crawler metadump 0\r\n";
constexpr size_t kProbeCount = 5;
constexpr std::string_view kBadToken = "CLIENT_ERROR bad token";

} // namespace

Result<Features> find_features(Connection &c) {
  std::vector<std::string> answers;
  // One by one: a dump is refused where another command stands before it (1.6.18).
  std::string_view rest = kProbes;
  while (answers.size() < kProbeCount) {
    const size_t end = rest.find('\n') + 1;
    TRY(c.converse(rest.substr(0, end), [&](const Answer &a) {
      answers.emplace_back(a.line);
      return false;
    }));
    rest.remove_prefix(end);
  }
  const auto settings = TRY(stats(c, "settings"));
  Features f;
  f.meta = answers[0] == "MN";
  f.meta_base64 = f.meta && answers[1].starts_with(kBadToken);
  f.set_cas = f.meta && answers[2].starts_with(kBadToken);
  f.me = answers[3] == "EN" || answers[3].starts_with("ME ");
  // BADCLASS: it would list the classes that exist.
  f.metadump = answers[4].starts_with("BADCLASS") || answers[4].starts_with("BUSY");
  f.dump_disabled = answers[4] == "ERROR metadump not allowed" ||
                    answers[4] == "CLIENT_ERROR lru crawler disabled";
  const auto cas = settings.find("cas_enabled");
  f.cas = cas == settings.end() || cas->second == "yes";
  return f;
}

} // namespace doppel::memcached
