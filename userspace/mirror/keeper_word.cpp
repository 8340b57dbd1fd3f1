// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/keeper_word.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "doppel/abi.h"
#include "userspace/mirror/maps.h"

namespace doppel {
namespace {
using SortedJson = nlohmann::json;
constexpr int kTries = 5;           // against a write at the very moment
constexpr size_t kSentence = 1'000; // bytes of a problem's text, where there is little room

std::string cut(const std::string &text) {
  return text.size() > kSentence ? text.substr(0, kSentence) + " ..." : text;
}

SortedJson to_json(const Problem &p, bool whole) {
  SortedJson j{{"kind", help_of(p.kind).name},
               {"what", whole ? p.what : cut(p.what)},
               {"since", p.since},
               {"key", whole ? p.key : cut(p.id())}};
  if (p.hint != help_of(p.kind).hint)
    j["hint"] = whole ? p.hint : cut(p.hint);
  return j;
}

// A cut may be within a character.
std::string dump(const SortedJson &json) {
  return json.dump(-1, ' ', false, SortedJson::error_handler_t::replace);
}

// Into `j`, as many of the gravest as fit.
void add_problems(const std::vector<Problem> &problems, size_t room, SortedJson &j) {
  size_t size = dump(j).size();
  for (const Problem &p : problems) {
    SortedJson one = to_json(p, false);
    size += dump(one).size() + 1;
    if (size > room)
      return;
    j["problems"].push_back(std::move(one));
  }
}

SortedJson from_problems(const std::vector<Problem> &problems) {
  SortedJson list = SortedJson::array();
  for (const Problem &p : problems)
    list.push_back(to_json(p, true));
  return list;
}

SortedJson from_tried(const std::map<std::string, Tried> &tried) {
  SortedJson j = SortedJson::object();
  for (const auto &[key, t] : tried)
    j[key] = {t.at_ns, t.accepted, t.refused};
  return j;
}

} // namespace

std::string text_of(const KeeperWord &w, size_t room) {
  SortedJson j{{"pid", w.pid},
               {"since", w.since},
               {"said_ns", w.said_ns},
               {"looked_ns", w.looked_ns},
               {"lost", w.lost},
               {"tried", from_tried(w.tried)},
               {"problems", from_problems(w.problems)},
               {"shortened", w.shortened}};
  std::string text = dump(j);
  for (const char *list : {"tried", "lost", "problems"}) {
    if (text.size() <= room)
      return text;
    j["shortened"] = true;
    j[list].clear();
    if (list == std::string("problems"))
      add_problems(w.problems, room, j);
    text = dump(j);
  }
  return text;
}

KeeperWord keeper_word_of(const std::string &text) {
  const SortedJson j = SortedJson::parse(text);
  KeeperWord w;
  j.at("pid").get_to(w.pid);
  j.at("since").get_to(w.since);
  j.at("looked_ns").get_to(w.looked_ns);
  w.said_ns = j.value("said_ns", w.looked_ns); // an earlier doppel's keeper has only the other
  w.shortened = j.value("shortened", false);
  j.at("lost").get_to(w.lost);
  for (const auto &[key, t] : j.at("tried").items())
    w.tried[key] = {t.at(0).get<uint64_t>(), t.at(1).get<bool>(), t.at(2).get<bool>()};
  for (const SortedJson &p : j.at("problems")) {
    const ProblemKind kind = problem_kind(p.at("kind"));
    w.problems.push_back({kind, p.at("what"), p.value("hint", help_of(kind).hint),
                          p.at("since").get<std::time_t>(), p.at("key")});
  }
  return w;
}

namespace {
Result<KeeperWordMap> open_map(const Pins &pins, Access access) {
  const std::string path = pins.map("keeper");
  KeeperWordMap map{access == Access::read ? open_pin_to_read(path) : open_pin(path)};
  bpf_map_info info{};
  uint32_t len = sizeof(info);
  if (!map.fd || bpf_obj_get_info_by_fd(map.fd.get(), &info, &len))
    return sys_error("map keeper", "cannot be opened", errno,
                     "doppel status tells what is missing");
  map.size = info.value_size;
  return map;
}

} // namespace

Result<KeeperWordMap> open_keeper_word(const Pins &pins) { return open_map(pins, Access::write); }

Status write_keeper_word(const KeeperWordMap &map, const KeeperWord &word) {
  std::string value = word.pid ? text_of(word, map.size - 1) : "";
  value.resize(map.size);
  const uint32_t key = 0;
  if (bpf_map_update_elem(map.fd.get(), &key, value.data(), BPF_ANY))
    return sys_error("map keeper", "cannot be written", errno);
  return Unit{};
}

Result<KeeperWord> read_keeper_word(const Pins &pins) {
  const auto map = TRY(open_map(pins, Access::read));
  std::string value(map.size, '\0');
  const uint32_t key = 0;
  std::string why;
  for (int i = 0; i < kTries; i++) {
    if (bpf_map_lookup_elem(map.fd.get(), &key, value.data()))
      return sys_error("map keeper", "cannot be read", errno);
    const std::string text = value.substr(0, value.find('\0'));
    if (text.empty())
      return KeeperWord{};
    try {
      return keeper_word_of(text);
    } catch (const std::exception &e) {
      why = e.what();
    }
  }
  return Error{"map keeper", "holds no keeper's word: " + why, "start the keeper again"};
}

} // namespace doppel
