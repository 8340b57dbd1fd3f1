// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <nlohmann/json.hpp>

#include "userspace/migrate/top_render.h"
#include "userspace/util/text.h"

namespace doppel::migrate {
namespace {
Json or_null(const std::optional<double> &value) { return value ? Json(*value) : Json(nullptr); }

// What is counted is whole, but for rates and averages.
Json figure_json(const std::optional<double> &value) {
  if (!value || *value != std::floor(*value) || std::fabs(*value) > 9e15)
    return or_null(value);
  return Json(static_cast<int64_t>(*value));
}

Json figures_json(const TopFigures &figures) {
  Json j = Json::object();
  for (const TopColumn &c : top_columns()) {
    const auto &value = figures.*c.value;
    j[c.name] = c.kind == TopKind::share ? or_null(value) : figure_json(value);
  }
  return j;
}

Json text_or_null(const std::string &text) { return text.empty() ? Json(nullptr) : Json(text); }

Json server_json(const TopServer &s) {
  Json j = {{"server", s.server},
            {"side", text_or_null(s.side)},
            {"mapping", text_or_null(s.mapping)},
            {"up", s.away.empty()},
            {"why", text_or_null(s.away)}};
  j.update(figures_json(figures_of(s)));
  return j;
}

Json pair_json(const TopModel &model, const TopPair &p) {
  const TopServer &source = model.servers[p.source], &target = model.servers[p.target];
  Json history = Json::array();
  for (const auto &w : p.warmth)
    history.push_back(or_null(w));
  return {{"mapping", text_or_null(p.mapping)},
          {"source", source.server},
          {"target", target.server},
          {"warmth", or_null(p.warmth.empty() ? std::nullopt : p.warmth.back())},
          {"history", history},
          {"difference", figures_json(difference(figures_of(source), figures_of(target)))}};
}

// The rows stand in the order in which the counters have them.
Json mirror_json(const TopModel &model) {
  if (!model.counters)
    return nullptr;
  Json j = to_json(*model.counters);
  const auto rows = rows_of(model);
  auto row = rows.begin();
  for (Json &mapping : j["mappings"])
    for (Json &target : mapping["targets"]) {
      target["bits_s"] = or_null(row->bits_s);
      target["segments_s"] = or_null(row->segments_s);
      target["lag_ms"] = or_null(row->lag_ms);
      ++row;
    }
  return j;
}

Json sums_json(const TopModel &model, TopFigures (*sum)(const std::vector<const TopServer *> &)) {
  Json j = Json::object();
  for (const auto &[name, side] :
       {std::pair("source", "source"), std::pair("target", "target"), std::pair("other", "")})
    if (const auto servers = of_side(model, side); !servers.empty())
      j[name] = figures_json(sum(servers));
  return j;
}

} // namespace

Json to_json(const TopModel &model) {
  Json servers = Json::array(), pairs = Json::array();
  for (const TopServer &s : model.servers)
    servers.push_back(server_json(s));
  for (const TopPair &p : model.pairs)
    pairs.push_back(pair_json(model, p));
  return {{"time", iso_time(model.now)},
          {"interval_s", model.interval_s},
          {"mirror", mirror_json(model)},
          {"mirror_absent", text_or_null(model.mirror_absent)},
          {"servers", servers},
          {"pairs", pairs},
          {"average", sums_json(model, average_of)},
          {"total", sums_json(model, total_of)}};
}

std::string json_text(const TopModel &model, bool one_line) {
  return dump(to_json(model), one_line);
}

} // namespace doppel::migrate
