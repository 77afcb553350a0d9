// What config.cc needs of protobuf's text format beyond parsing. It sets one field from text and gives a
// sentence when the text does not fit. It finds everything that is wrong in a file that does not parse.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

namespace unipool {

// The names of a message's fields.
std::vector<std::string> FieldNames(const google::protobuf::Descriptor& message);
// The paths of all fields below it that are not messages: "model.layers", "run_dir".
std::vector<std::string> LeafPaths(const google::protobuf::Descriptor& message,
                                   const std::string& prefix = "");

// What the unknown field `path` of `message` was probably meant to be, a clause, or "". `root` is the whole
// schema.
std::string SuggestField(const google::protobuf::Descriptor& root,
                         const google::protobuf::Descriptor& message, const std::string& path);

// Sets a field that is not a message from one value in text format; adds the value to a repeated field.
// Returns "", or what was expected and found: `expected a whole number, found "abc"`.
std::string SetFieldFromText(google::protobuf::Message& message,
                             const google::protobuf::FieldDescriptor& field, const std::string& value);

// All problems of a text that protobuf refused, each beginning with "FILE:LINE: ". The list is empty when the
// syntax is wrong in a way that this function does not explain.
std::vector<std::string> DiagnoseConfigText(const google::protobuf::Message& schema, const std::string& file,
                                            const std::string& text);

}  // namespace unipool
