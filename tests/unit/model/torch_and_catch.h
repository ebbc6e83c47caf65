// LibTorch and Catch2 together: both define CHECK, and Catch2's is meant.
#pragma once

#include <ATen/ATen.h>
#undef CHECK
#include <catch2/catch.hpp>
