// SPDX-License-Identifier: Apache-2.0
// The hottest keys as JSON and as lines, which the screen shows as well. Pure.
#pragma once

#include <string>
#include <vector>

#include "userspace/migrate/key_heat.h"
#include "userspace/migrate/top_render.h"

namespace doppel::migrate {

// Control bytes, bytes above 0x7e and backslashes as \xNN.
std::string shown_key(const std::string &key);

// {"keys": [...], "sampled_one_in": ..., ...}: at most `most` keys, in the order of the model.
std::string key_json(const KeyModel &model, size_t most);
std::vector<TopLine> key_lines(KeyModel model, KeyOrder order, size_t most);
std::string key_text(const KeyModel &model, size_t most);

} // namespace doppel::migrate
