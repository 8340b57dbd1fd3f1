// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/keeper_word.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "userspace/mirror/maps.h"

namespace doppel {
namespace {
using Json = nlohmann::json;
constexpr int kTries = 5;                  // against a write at the very moment
constexpr size_t kRoom = DP_META_SIZE / 2; // for problems: the rest is small and must fit

Json to_json(const Problem &p) {
  return {{"kind", help_of(p.kind).name},
          {"what", p.what},
          {"hint", p.hint},
          {"since", p.since},
          {"key", p.key}};
}

std::string text_of(const KeeperWord &w) {
  Json j{{"pid", w.pid},
         {"since", w.since},
         {"said_ns", w.said_ns},
         {"looked_ns", w.looked_ns},
         {"lost", w.lost},
         {"tried", Json::object()},
         {"problems", Json::array()}};
  for (const auto &[key, t] : w.tried)
    j["tried"][key] = {t.at_ns, t.accepted, t.refused};
  const auto dump = [](const Json &json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  size_t room = kRoom;
  for (const Problem &p : w.problems) { // the gravest first: those that do not fit are the rest
    const Json one = to_json(p);
    const size_t size = dump(one).size() + 1;
    if (size > room)
      break;
    room -= size;
    j["problems"].push_back(one);
  }
  return dump(j);
}

// Throws Json::exception on anything unexpected.
KeeperWord from_json(const Json &j) {
  KeeperWord w;
  j.at("pid").get_to(w.pid);
  j.at("since").get_to(w.since);
  j.at("looked_ns").get_to(w.looked_ns);
  w.said_ns = j.value("said_ns", w.looked_ns); // an earlier doppel's keeper has only the other
  j.at("lost").get_to(w.lost);
  for (const auto &[key, t] : j.at("tried").items())
    w.tried[key] = {t.at(0).get<uint64_t>(), t.at(1).get<bool>(), t.at(2).get<bool>()};
  for (const Json &p : j.at("problems"))
    w.problems.push_back({problem_kind(p.at("kind")), p.at("what"), p.at("hint"),
                          p.at("since").get<std::time_t>(), p.at("key")});
  return w;
}

} // namespace

Status write_keeper_word(const Pins &pins, const KeeperWord &word) {
  const auto table = TRY(open_table(pins, "keeper", sizeof(dp_meta)));
  auto value = std::make_unique<dp_meta>();
  const std::string text = word.pid ? text_of(word) : "";
  if (text.size() >= sizeof(value->json))
    return Error{"map keeper", "the keeper's word does not fit", "use fewer or shorter names"};
  std::memcpy(value->json, text.c_str(), text.size() + 1);
  const uint32_t key = 0;
  if (bpf_map_update_elem(table.fd.get(), &key, value.get(), BPF_ANY))
    return sys_error("map keeper", "cannot be written", errno);
  return Unit{};
}

Result<KeeperWord> read_keeper_word(const Pins &pins) {
  const auto table = TRY(open_table(pins, "keeper", sizeof(dp_meta)));
  auto value = std::make_unique<dp_meta>();
  const uint32_t key = 0;
  std::string why;
  for (int i = 0; i < kTries; i++) {
    if (bpf_map_lookup_elem(table.fd.get(), &key, value.get()))
      return sys_error("map keeper", "cannot be read", errno);
    value->json[sizeof(value->json) - 1] = '\0';
    if (!*value->json)
      return KeeperWord{};
    try {
      return from_json(Json::parse(value->json));
    } catch (const std::exception &e) {
      why = e.what();
    }
  }
  return Error{"map keeper", "holds no keeper's word: " + why, "start the keeper again"};
}

} // namespace doppel
