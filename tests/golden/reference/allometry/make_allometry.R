# Exponents of body size that ours are held against. Run here: Rscript make_allometry.R (base R).
set.seed(71)
exact <- function(x) sprintf("%.17g", x)
n <- 300
male <- rbinom(n, 1, 0.5)
height <- round(rnorm(n, 163 + 13 * male, 7), 1)
weight <- round(exp(rnorm(n, log(62 + 16 * male), 0.16)), 1)
mass <- round(exp(log(70 + 35 * male) + 1.9 * log(height / 170) + rnorm(n, 0, 0.15)), 2)
people <- data.frame(male, height, weight, mass)
write.csv(people, "people.csv", row.names = FALSE, quote = FALSE)
mosteller <- sqrt(height * weight / 3600)
dubois <- 0.007184 * height^0.725 * weight^0.425
sizes <- list(height = height / 100, bsa_mosteller = mosteller, bsa_dubois = dubois, weight = weight)
rows <- do.call(rbind, lapply(names(sizes), function(s) {
  c1 <- summary(lm(log(mass) ~ log(sizes[[s]]) + factor(male)))$coefficients[2, ]
  c2 <- summary(lm(log(mass) ~ log(sizes[[s]])))$coefficients[2, ]
  data.frame(size = s, exponent = exact(c1[1]), se = exact(c1[2]), plain = exact(c2[1]), plain_se = exact(c2[2]))
}))
write.csv(rows, "exponents.csv", row.names = FALSE, quote = FALSE)
writeLines(R.version.string, "versions.txt")
