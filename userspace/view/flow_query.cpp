// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/flow_query.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <tuple>
#include <vector>

#include "userspace/util/text.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
Error bad_option(std::string where, std::string what, std::string hint) {
  return {std::move(where), std::move(what), std::move(hint), Exit::usage};
}

// What was meant, or all that is known.
std::string known(const std::string &word, const std::vector<std::string> &all) {
  const auto near = nearest(word, all);
  return near ? "did you mean " + in_quotes(*near) + "?" : "known are " + quoted_list(all);
}

template <typename T> std::vector<std::string> names_of(const T &list) {
  std::vector<std::string> names;
  names.reserve(std::size(list));
  for (const auto &one : list)
    names.emplace_back(one.name);
  return names;
}

std::string in_capitals(std::string text) {
  for (char &c : text)
    c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

void read_filters(const FlowWords &words, FlowQuery &query, Errors &errors) {
  query.mapping = words.mapping;
  query.target = parse_endpoint(words.target);
  if (!words.target.empty() && !query.target)
    errors.push_back(bad_option("--target",
                                in_quotes(words.target) + " is not an address with a port",
                                "write it as flows shows it: \"192.168.2.184:11211\" or "
                                "\"[2001:db8::1]:11211\""));
  query.client = parse_prefix(words.client);
  if (!words.client.empty() && !query.client)
    errors.push_back(
        bad_option("--client", in_quotes(words.client) + " is neither an address nor a prefix",
                   "write \"10.1.2.3\", \"10.0.0.0/8\" or \"2001:db8::/32\", without a "
                   "port"));
  query.state = in_capitals(words.state);
  const auto states = flow_states();
  if (!words.state.empty() && std::find(states.begin(), states.end(), query.state) == states.end())
    errors.push_back(bad_option("--state", in_quotes(words.state) + " is not a state",
                                known(query.state, states)));
  query.reason = words.excluded;
  const auto reasons = names_of(excluded_reasons);
  if (!words.excluded.empty() &&
      std::find(reasons.begin(), reasons.end(), words.excluded) == reasons.end())
    errors.push_back(bad_option("--excluded", in_quotes(words.excluded) + " is not a reason",
                                known(words.excluded, reasons)));
}

// One of the columns; nullptr: none is called so.
template <typename T> const T *column(const std::vector<T> &columns, const std::string &name) {
  const auto found =
      std::find_if(columns.begin(), columns.end(), [&](const T &c) { return c.name == name; });
  return found == columns.end() ? nullptr : &*found;
}

void read_order(const FlowWords &words, FlowQuery &query, Errors &errors) {
  if (words.sort.empty())
    return;
  const size_t colon = words.sort.find(':');
  const std::string key = words.sort.substr(0, colon);
  const std::string way = colon == std::string::npos ? "" : words.sort.substr(colon + 1);
  query.sort = words.summary ? nullptr : column(flow_columns(), key);
  query.by = words.summary ? column(flow_sum_columns(), key) : nullptr;
  if (!query.sort && !query.by) {
    const bool of_rows = words.summary && column(flow_columns(), key);
    errors.push_back(
        bad_option("--sort",
                   in_quotes(key) + (of_rows ? " does not add up in a summary"
                                             : " is not what flows can be sorted by"),
                   known(of_rows ? "" : key,
                         words.summary ? names_of(flow_sum_columns()) : names_of(flow_columns()))));
  }
  const bool up = way == "asc", down = way == "desc";
  if (colon != std::string::npos && !up && !down)
    errors.push_back(
        bad_option("--sort", in_quotes(way) + " is not an order",
                   "write " + in_quotes(key + ":asc") + " or " + in_quotes(key + ":desc")));
  query.descending = down || (!up && !(query.sort && query.sort->unit == FlowUnit::text));
}

} // namespace

Result<FlowQuery> parse_flow_query(const FlowWords &words) {
  FlowQuery query;
  Errors errors;
  query.limit = words.limit;
  query.summary = words.summary;
  read_filters(words, query, errors);
  read_order(words, query, errors);
  if (!errors.empty())
    return errors;
  return query;
}

bool matches(const FlowQuery &q, const FlowRow &f) {
  return (q.mapping.empty() || f.mapping == q.mapping) && (!q.target || f.target == *q.target) &&
         (!q.client || q.client->contains(f.client.address)) &&
         (q.state.empty() || f.state == q.state) && (q.reason.empty() || f.reason == q.reason);
}

bool is_before(const FlowQuery &q, const FlowRow &a, const FlowRow &b) {
  if (const int order = q.sort ? q.sort->order(a, b) : 0; order != 0)
    return q.descending ? order > 0 : order < 0;
  return std::tie(a.client, a.server, a.target, a.copy) <
         std::tie(b.client, b.server, b.target, b.copy);
}

std::string flow_sort_keys() { return joined(names_of(flow_columns())); }

} // namespace doppel
